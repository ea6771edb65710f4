"""The page in a web archive (.mht, RFC 2557), which programs embed in Word documents."""

import binascii
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

_HEAD = re.compile(rb"(?i:mime-version:|content-type:\s*multipart/)")
_END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")
_FOLDED = re.compile(rb"\r?\n[ \t]+")
_HEADER = re.compile(rb"^(content-type|content-transfer-encoding):(.*)$", re.IGNORECASE | re.MULTILINE)
_PARAMETER = re.compile(rb";\s*(boundary|charset)\s*=\s*(?:\"([^\"]*)\"|([^\s;]+))", re.IGNORECASE)
_HEADER_BYTES = 4096
# A page with alternatives, with what it shows, in a message.
_DEEPEST = 3


def is_archive(data: bytes) -> bool:
    return _HEAD.search(data[:1024]) is not None and _END_OF_HEADERS.search(data[:_HEADER_BYTES]) is not None


@dataclass(frozen=True, slots=True)
class Page:
    content: bytes
    content_type: str
    charset: str | None


def page(data: bytes) -> Page | None:
    """The first page of HTML, or else of text."""
    pages = list(_pages(data, 0))
    return next((found for found in pages if found.content_type.startswith("text/html")), next(iter(pages), None))


def _pages(data: bytes, depth: int) -> Iterator[Page]:
    end = _END_OF_HEADERS.search(data[:_HEADER_BYTES])
    headers = _FOLDED.sub(b" ", data[: end.start()] if end else b"")
    body = data[end.end() :] if end else data
    fields = {name.lower(): value.strip() for name, value in _HEADER.findall(headers)}
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
                yield from _pages(part.lstrip(b" \t").removeprefix(b"\r").removeprefix(b"\n"), depth + 1)
    elif content_type.startswith(b"text/"):
        encoding = fields.get(b"content-transfer-encoding", b"").lower()
        charset = parameters.get(b"charset", b"").decode("ascii", "ignore") or None
        yield Page(_decoded(body, encoding), content_type.decode("ascii", "ignore"), charset)


def _decoded(body: bytes, encoding: bytes) -> bytes:
    if encoding == b"quoted-printable":
        return binascii.a2b_qp(body)
    if encoding == b"base64":
        with suppress(binascii.Error):
            return binascii.a2b_base64(body)
    return body
