"""Sending a document's bytes: whole, or one range of them (RFC 9110, section 14); or 412
or 304 when a precondition fails (section 13).

Uploaded content never runs in a reader's browser on our origin: it is an attachment, its type is not guessed, and a
type that browsers run is not named. A request for several ranges gets the whole document, as the RFC allows.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Final

from fastapi import Request
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from services.projects.blobs.store import OpenBlob
from services.projects.documents.content_disposition import attachment
from services.projects.documents.errors import RangeNotSatisfiable
from services.projects.documents.names import UNKNOWN_TYPE
from services.projects.documents.upload_bodies import BINARY
from services.projects.versions.models import DocumentVersion
from shared.errors import PreconditionFailed
from shared.etags import names, names_strongly
from shared.http_semantics import wants_body
from shared.problems import problem_response
from shared.request_context import request_id_of

# The document's own type unless browsers run it.
_ANY_TYPE: Final = {"application/octet-stream": BINARY, "*/*": BINARY}
CONTENT_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": _ANY_TYPE, "description": "The bytes."},
    206: {"content": _ANY_TYPE, "description": "The requested range of the bytes."},
    307: {"description": "Where to get the bytes within a minute, if the installation says so."},
}

_RANGE = re.compile(r"bytes\s*=\s*(?P<first>[0-9]{0,99})\s*-\s*(?P<last>[0-9]{0,99})\s*", re.IGNORECASE)
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
        # As a header: to a media type Starlette would add a charset, which is unknown.
        length = str(extent.end - extent.start)
        complete = {**headers, "Content-Type": content_type, "Content-Length": length}
        super().__init__(blob.chunks(extent.start, extent.end), status, complete)
        self._blob = blob

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not wants_body(scope):
            self.body_iterator = self._blob.chunks(0, 0)
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._blob.close()


async def content_response(
    request: Request,
    version: DocumentVersion,
    blob: OpenBlob,
    *,
    name: str,
    content_type: str | None = None,
    elsewhere: bool = False,
) -> Response:
    """The response to a request for the bytes of a version; takes ownership of `blob`.

    Args:
        name: of the document.
        content_type: what to call them, if not what is safe in a browser.
        elsewhere: whether the caller may be sent to where the bytes are stored.
    """
    return await download(
        request,
        blob,
        name=name,
        content_type=content_type or _safe_type(version.content_type),
        sha256=version.sha256,
        modified=version.created_at,
        elsewhere=elsewhere,
    )


async def download(
    request: Request,
    blob: OpenBlob,
    *,
    name: str,
    content_type: str,
    sha256: str,
    modified: datetime,
    elsewhere: bool = False,
) -> Response:
    """The response to a request for a blob that never changes; takes ownership of it.

    Args:
        elsewhere: whether the caller may be sent to where the bytes are stored.
    """
    tag = f'"{sha256}"'
    headers = {
        "ETag": tag,
        "Last-Modified": format_datetime(modified.astimezone(UTC), usegmt=True),
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": attachment(name),
        "Content-Security-Policy": "sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    # Headers carry whole seconds.
    modified = modified.replace(microsecond=0)
    try:
        if not _is_wanted(request.headers, tag, modified):
            await blob.close()
            return Response(status_code=304, headers=headers)
        part = _requested(request.headers, tag, modified, blob.size)
    except (PreconditionFailed, RangeNotSatisfiable) as error:
        await blob.close()
        if isinstance(error, RangeNotSatisfiable):
            error.headers["Content-Range"] = f"bytes */{blob.size}"
        return problem_response(request_id_of(request), request.scope["path"], error)
    if elsewhere and _asks_for_bytes_alone(request):
        address = await blob.address(disposition=headers["Content-Disposition"], content_type=content_type)
        if address is not None:
            await blob.close()
            return Response(status_code=307, headers={"Location": address, "Cache-Control": "no-store"})
    if part is None:
        return ContentResponse(blob, _Extent(0, blob.size), 200, headers, content_type)
    headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{blob.size}"
    return ContentResponse(blob, part, 206, headers, content_type)


def _asks_for_bytes_alone(request: Request) -> bool:
    """Conditions name our `ETag`, which the store does not know; an address is for `GET`."""
    return wants_body(request.scope) and not any(name.startswith("if-") for name in request.headers)


def _is_wanted(headers: Headers, tag: str, modified: datetime) -> bool:
    """Evaluates conditions in the order of RFC 9110, section 13.2.2: dates count only where there is no tag.

    Raises:
        PreconditionFailed: the client wants other content than this.
    """
    if (tags := headers.get("if-match")) is not None:
        if not names_strongly(tags, tag):
            raise PreconditionFailed
    elif (since := _date(headers.get("if-unmodified-since"))) is not None and modified > since:
        raise PreconditionFailed
    if (tags := headers.get("if-none-match")) is not None:
        return not names(tags, tag)
    since = _date(headers.get("if-modified-since"))
    return since is None or modified > since


def _requested(headers: Headers, tag: str, modified: datetime, size: int) -> _Extent | None:
    """The single range requested; None for the whole, also when the header is malformed or about older content.

    Raises:
        RangeNotSatisfiable: none of the bytes exist.
    """
    match = _RANGE.fullmatch(headers.get("range", "").strip())
    condition = headers.get("if-range", tag).strip()
    if match is None or (condition != tag and _date(condition) != modified):
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


def _date(header: str | None) -> datetime | None:
    """An HTTP date; None for anything else, which is then ignored as a condition."""
    try:
        moment = parsedate_to_datetime(header or "")
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _safe_type(declared: str) -> str:
    return declared if declared in _INERT_TYPES or declared.startswith(_INERT_PREFIX) else UNKNOWN_TYPE
