"""Sending a document's bytes: whole, one range of them (RFC 9110, section 14), or 304 to who has them already.

What somebody uploaded never runs in a reader's browser on our origin: it is an attachment, its type is not guessed, and
a type that browsers run is not named. Several ranges in one request are answered with the whole, as the RFC allows.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from services.projects.blobs import OpenBlob
from services.projects.documents.errors import RangeNotSatisfiable
from services.projects.documents.models import Document
from services.projects.documents.names import UNKNOWN_TYPE
from shared.http import problem_response, request_id_of

_RANGE = re.compile(r"bytes\s*=\s*(?P<first>[0-9]{0,18})\s*-\s*(?P<last>[0-9]{0,18})\s*", re.IGNORECASE)
_INERT_TYPES = frozenset(
    {
        "application/json",
        "application/msword",
        "application/pdf",
        "application/rtf",
        "application/zip",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "message/rfc822",
        "text/csv",
        "text/markdown",
        "text/plain",
    }
)
_INERT_PREFIX = "application/vnd.openxmlformats-officedocument."


@dataclass(frozen=True, slots=True)
class _Extent:
    """Bytes from `start` up to, not including, `end`."""

    start: int
    end: int


class ContentResponse(StreamingResponse):
    """Streams part of an open blob and closes it, also when the client goes away."""

    def __init__(
        self, blob: OpenBlob, extent: _Extent, status: int, headers: Mapping[str, str], content_type: str
    ) -> None:
        # As a header: for a media type Starlette would add a charset that nobody knows.
        length = str(extent.end - extent.start)
        complete = {**headers, "Content-Type": content_type, "Content-Length": length}
        super().__init__(blob.chunks(extent.start, extent.end), status, complete)
        self._blob = blob

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            self.body_iterator = self._blob.chunks(0, 0)
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._blob.close()


async def content_response(request: Request, document: Document, blob: OpenBlob) -> Response:
    """The answer to a request for the bytes of `document`; takes over `blob`."""
    tag = f'"{document.sha256}"'
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(document.name, safe='')}",
        "Content-Security-Policy": "sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    if _has_tag(request.headers.get("if-none-match"), tag):
        await blob.close()
        return Response(status_code=304, headers=headers)
    whole = _Extent(0, blob.size)
    try:
        part = _requested(request, tag, blob.size)
    except RangeNotSatisfiable as error:
        await blob.close()
        response = problem_response(request_id_of(request), request.scope["path"], error)
        response.headers["Content-Range"] = f"bytes */{blob.size}"
        return response
    if part is None:
        return ContentResponse(blob, whole, 200, headers, _safe_type(document.content_type))
    headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{blob.size}"
    return ContentResponse(blob, part, 206, headers, _safe_type(document.content_type))


def _requested(request: Request, tag: str, size: int) -> _Extent | None:
    """The single range asked for; None for the whole, also when the header is malformed or about older content.

    Raises:
        RangeNotSatisfiable: none of the bytes exist.
    """
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if match is None or request.headers.get("if-range", tag) != tag:
        return None
    first, last = match["first"], match["last"]
    if not first and not last:
        return None
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise RangeNotSatisfiable
    return _Extent(start, end)


def _has_tag(header: str | None, tag: str) -> bool:
    """Weak comparison, as `If-None-Match` wants it."""
    if header is None:
        return False
    return header.strip() == "*" or tag in (part.strip().removeprefix("W/") for part in header.split(","))


def _safe_type(declared: str) -> str:
    return declared if declared in _INERT_TYPES or declared.startswith(_INERT_PREFIX) else UNKNOWN_TYPE
