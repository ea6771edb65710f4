"""The page in a web archive (.mht, RFC 2557), which programs embed in Word documents."""

import binascii
import re
from collections.abc import Iterator
from contextlib import suppress

_HEAD = re.compile(rb"(?i:mime-version:|content-type:\s*multipart/)")
_END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")
_FOLDED = re.compile(rb"\r?\n[ \t]+")
_HEADER = re.compile(rb"^(content-type|content-transfer-encoding):[ \t]*(.*?)[ \t\r]*$", re.IGNORECASE | re.MULTILINE)
_PARAMETER = re.compile(rb";\s*(boundary|charset)\s*=\s*(?:\"([^\"]*)\"|([^\s;]+))", re.IGNORECASE)
_HEADER_BYTES = 16 * 1024
# A page with alternatives, with what it shows, in a message.
_DEEPEST = 3


def is_archive(data: bytes) -> bool:
    return _HEAD.search(data[:1024]) is not None and _END_OF_HEADERS.search(data[:_HEADER_BYTES]) is not None


def page(data: bytes) -> tuple[bytes, str | None] | None:
    """The first page of HTML, or else of text, and its declared encoding."""
    leaves = list(_leaves(data, 0))
    for wanted in (b"text/html", b"text/"):
        for content_type, content, charset in leaves:
            if content_type.startswith(wanted):
                return content, charset
    return None


def _leaves(data: bytes, depth: int) -> Iterator[tuple[bytes, bytes, str | None]]:
    end = _END_OF_HEADERS.search(data[:_HEADER_BYTES])
    headers = _FOLDED.sub(b" ", data[: end.start()] if end else b"")
    body = data[end.end() :] if end else data
    fields = {name.lower(): value for name, value in _HEADER.findall(headers)}
    content_type = fields.get(b"content-type", b"text/plain").lower()
    parameters = {
        name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(fields.get(b"content-type", b""))
    }
    boundary = parameters.get(b"boundary")
    if content_type.startswith(b"multipart/") and boundary:
        if depth < _DEEPEST:
            for part in body.split(b"--" + boundary)[1:]:
                if part.startswith(b"--"):
                    return
                yield from _leaves(part.lstrip(b" \t").removeprefix(b"\r").removeprefix(b"\n"), depth + 1)
    elif content_type.startswith(b"text/"):
        encoding = fields.get(b"content-transfer-encoding", b"").strip().lower()
        charset = parameters.get(b"charset", b"").decode("ascii", "ignore") or None
        yield content_type, _decoded(body, encoding), charset


def _decoded(body: bytes, encoding: bytes) -> bytes:
    if encoding == b"quoted-printable":
        return binascii.a2b_qp(body)
    if encoding == b"base64":
        with suppress(binascii.Error):
            return binascii.a2b_base64(body)
    return body
