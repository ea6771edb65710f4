"""Which headers pass the gateway.

Inwards only those on a list pass: what a client invents never reaches a service, however it is spelled. Outwards
everything passes except what belongs to one connection and what only the gateway sets.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from services.gateway.inbound.request_validation import ClientRequest
from shared.response_continuation import CONTINUES

RawHeaders = Sequence[tuple[bytes, bytes]]

# Everything else is dropped, and with it: hop-by-hop headers, authorization, cookie, forwarded and x-forwarded-*,
# x-tenant-*, x-internal-*, trace headers, method overrides, and every name with an underscore.
_INWARDS: Final = frozenset(
    {
        *(b"accept", b"accept-encoding", b"accept-language", b"cache-control", b"prefer", b"range", b"user-agent"),
        *(b"content-type", b"content-length", b"content-encoding", b"content-disposition", b"content-language"),
        *(b"content-digest", b"content-md5", b"digest"),
        *(b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"),
        *(b"idempotency-key", b"last-event-id", b"origin", b"referer", b"sec-fetch-site", b"x-csrf-token"),
        *(b"tus-resumable", b"upload-checksum", b"upload-concat", b"upload-defer-length", b"upload-length"),
        *(b"upload-metadata", b"upload-offset"),
        *(b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"mcp-session-id"),
    }
)
# Arguments of a tool that its schema puts into headers, too, under names that the tool chooses.
_MCP_ARGUMENT: Final = re.compile(rb"mcp-param-[a-z0-9-]+\Z")

_HOP_BY_HOP: Final = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te"),
        *(b"trailer", b"transfer-encoding", b"upgrade"),
    }
)

# Set by the gateway itself, whatever a service sends.
_GATEWAYS_OWN: Final = frozenset(
    {
        *(b"date", b"server", b"via", b"x-powered-by", b"x-request-id", b"server-timing", b"traceparent"),
        *(b"tracestate", b"strict-transport-security", b"x-content-type-options", b"x-frame-options"),
        *(b"referrer-policy", b"cross-origin-resource-policy", b"ratelimit", b"ratelimit-policy", b"alt-svc"),
        CONTINUES.lower().encode("ascii"),
    }
)


def inwards(request: ClientRequest, *, cookies: bool, compression: bool) -> list[tuple[str, str]]:
    """The client's headers that are sent to a service. Cookies pass only where `cookies` says so (sign-in)."""
    nominated = connection_names(request.headers)
    passed = [
        (name.decode("ascii"), _text(value))
        for name, value in request.headers
        if (name in _INWARDS or _MCP_ARGUMENT.match(name))
        and name not in nominated
        and (compression or name != b"accept-encoding")
    ]
    if cookies and (pairs := request.cookies()):
        passed.append(("cookie", "; ".join(f"{name}={value}" for name, value in pairs)))
    return passed


def outwards(raw: Iterable[tuple[bytes, bytes]], *, cookies: bool, upstream_url: str) -> list[tuple[bytes, bytes]]:
    """A service's headers that are sent to the client; an absolute Location inside the system becomes a path."""
    headers = [(name.lower(), value) for name, value in raw]
    nominated = connection_names(headers)
    passed = []
    for name, value in headers:
        if name in _HOP_BY_HOP or name in _GATEWAYS_OWN or name in nominated or name.startswith(b"access-control-"):
            continue
        if name == b"set-cookie" and not cookies:
            continue
        if name == b"location":
            passed.append((name, value.removeprefix(upstream_url.encode("ascii")) or b"/"))
            continue
        passed.append((name, value))
    return passed


def connection_names(headers: RawHeaders) -> frozenset[bytes]:
    """Names a Connection header makes hop-by-hop for this one message (RFC 9110, 7.6.1)."""
    listed = [value for name, value in headers if name == b"connection"]
    if not listed:
        return frozenset()
    # Connection must not remove the headers that frame the body: without its length it would be read as another body.
    names = {part.strip(b" \t").lower() for value in listed for part in value.split(b",")}
    return frozenset(names - {b"content-length", b"content-type", b"content-encoding", b"close", b""})


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
