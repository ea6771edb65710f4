"""The request as it arrived, checked: the gateway refuses whatever two parsers could read differently.

Paths are judged and sent on as the same bytes. Refused are: anything but visible ASCII, broken percent-encoding, and,
after decoding, empty, `.` and `..` segments, slashes, backslashes and control characters that were encoded. What is
left has one meaning, so a path that is not routed here cannot turn into one that is routed by a service.

Framing (RFC 9112, 6.3): one Content-Length of digits, or Transfer-Encoding `chunked`, never both.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

from services.gateway.errors import AddressTooLong, HeadersTooLarge, MethodNotAllowed
from services.gateway.routes import METHODS
from shared.errors import InvalidRequest

MAX_ADDRESS_BYTES: Final = 8192
MAX_HEADER_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 128
# Optional white space (RFC 9110, 5.6.3). `str.strip` by itself removes much more, such as `\xa0`.
OWS: Final = " \t"

_PATH = re.compile(rb"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*\Z")
_QUERY = re.compile(rb"[\x21\x22\x24-\x7e]*\Z")
_ENCODED_SEPARATORS = re.compile(rb"%(?:2f|5c|00)", re.IGNORECASE)
_BAD_SEGMENT = re.compile(r"/(?:\.{0,2})(?=/)|/\.{1,2}\Z|[\\\x00-\x1f\x7f]")
# A cookie's name is a token (RFC 6265, 4.1.1). A name that another parser could trim to one of ours is not.
_COOKIE = re.compile(
    r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*=[ \t]*"
    r"([\x21-\x3a\x3c-\x7e](?:[\x20-\x3a\x3c-\x7e]*[\x21-\x3a\x3c-\x7e])?)?\Z"
)
_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?\Z")
_LENGTH = re.compile(rb"[0-9]{1,18}\Z")

# Headers of which only one may be sent: parsers disagree on which of two counts.
_SINGLE: Final = frozenset(
    {
        *(b"authorization", b"content-length", b"content-type", b"content-encoding", b"host", b"idempotency-key"),
        *(b"last-event-id", b"origin", b"range", b"sec-fetch-site", b"transfer-encoding", b"x-csrf-token"),
        *(b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"mcp-session-id"),
    }
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A request that has one reading. `raw_path` and `query` are the bytes to send on, `path` is `raw_path` decoded.

    `length` is the announced body size, None when it is not known before; `has_body` is false when there is none.
    """

    method: str
    raw_path: str
    path: str
    query: str
    headers: tuple[tuple[bytes, bytes], ...]
    has_body: bool
    length: int | None
    address: str

    def header(self, name: bytes) -> str | None:
        """The value of a header of which there may be only one."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return None

    def all(self, name: bytes) -> list[str]:
        return [value.decode("latin-1") for key, value in self.headers if key == name]

    def cookies(self) -> list[tuple[str, str]]:
        """Names and values of all cookies sent (RFC 6265, 4.2); malformed ones are left out."""
        parts = (part.strip(OWS) for header in self.all(b"cookie") for part in header.split(";"))
        return [(found[1], found[2] or "") for part in parts if (found := _COOKIE.match(part))]


def read(scope: Scope, trusted_proxies: tuple[Network, ...]) -> ClientRequest:
    """Check the request line and headers of an ASGI `http` scope.

    Raises:
        InvalidRequest, AddressTooLong, HeadersTooLarge, MethodNotAllowed: with nothing of it forwarded.
    """
    raw_path: bytes = scope.get("raw_path") or b""
    query: bytes = scope["query_string"]
    headers = tuple((name.lower(), value) for name, value in scope["headers"])
    if scope["method"] not in METHODS:
        raise MethodNotAllowed(METHODS)
    if len(raw_path) + len(query) > MAX_ADDRESS_BYTES:
        raise AddressTooLong
    if len(headers) > MAX_HEADERS or sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEADER_BYTES:
        raise HeadersTooLarge
    if not _QUERY.match(query):
        raise InvalidRequest("The query contains characters that must be percent-encoded.")
    _refuse_ambiguous_headers(headers)
    has_body, length = _framing(headers)
    return ClientRequest(
        method=scope["method"],
        raw_path=raw_path.decode("ascii", "replace"),
        path=_decoded(raw_path),
        query=query.decode("ascii"),
        headers=headers,
        has_body=has_body,
        length=length,
        address=_client_address(scope, headers, trusted_proxies),
    )


def _decoded(raw_path: bytes) -> str:
    if not _PATH.match(raw_path) or _ENCODED_SEPARATORS.search(raw_path):
        raise InvalidRequest("The path is not valid.")
    try:
        path = unquote_to_bytes(raw_path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest("The path is not valid UTF-8.") from error
    if _BAD_SEGMENT.search(path):
        raise InvalidRequest("The path contains empty, '.' or '..' segments or control characters.")
    return path


def _refuse_ambiguous_headers(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    seen: set[bytes] = set()
    for name, value in headers:
        if name in _SINGLE:
            if name in seen:
                raise InvalidRequest(f"The header {name.decode('ascii')} is sent more than once.")
            seen.add(name)
        if b"\r" in value or b"\n" in value or b"\0" in value:
            raise InvalidRequest("A header contains control characters.")


def _framing(headers: tuple[tuple[bytes, bytes], ...]) -> tuple[bool, int | None]:
    length = coding = None
    for name, value in headers:
        if name == b"content-length":
            length = value
        elif name == b"transfer-encoding":
            coding = value
    if coding is not None:
        if length is not None or coding.strip(b" \t").lower() != b"chunked":
            raise InvalidRequest("The length of the body is ambiguous.")
        return True, None
    if length is None:
        return False, 0
    if not _LENGTH.match(length):
        raise InvalidRequest("Content-Length is not a number.")
    return int(length) > 0, int(length)


def _client_address(
    scope: Scope, headers: tuple[tuple[bytes, bytes], ...], trusted_proxies: tuple[Network, ...]
) -> str:
    """The peer, or, where the peer is a trusted proxy, the nearest address in X-Forwarded-For that is not one."""
    client = scope.get("client")
    peer = client[0] if client else ""
    if not trusted_proxies:
        return peer
    forwarded = b",".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1")
    hops = [peer, *(hop.strip(OWS) for hop in reversed(forwarded.split(",")) if hop.strip(OWS))]
    for hop in hops:
        address = _parse(hop)
        if address is None:
            return peer
        if not _is_within(address, trusted_proxies):
            return str(address)
    return str(_parse(hops[-1]))


def is_trusted(peer: str, trusted_proxies: tuple[Network, ...]) -> bool:
    """Whether this peer is trusted to name its clients."""
    address = _parse(peer) if trusted_proxies else None
    return address is not None and _is_within(address, trusted_proxies)


def _is_within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


@lru_cache(maxsize=4096)
def limit_key(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 of one IPv6 subscriber."""
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, 64), strict=False))
    return str(parsed) if parsed is not None else address or "unknown"


def _parse(text: str) -> Address | None:
    """An address as peers and proxies write it: bare, or with a port (`192.0.2.1:443`, `[2001:db8::1]:443`). An IPv4
    address within IPv6, as a socket for both kinds shows it, is the IPv4 address."""
    found = _WITH_PORT.match(text)
    try:
        address = ip_address((found[1] or found[2]) if found else text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return None if address.scope_id is not None else address.ipv4_mapped or address
    return address
