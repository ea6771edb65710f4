"""The bodies of uploads, as routers take them and as the OpenAPI document describes them."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, Query, Request
from starlette.requests import ClientDisconnect

from services.projects.documents.errors import UploadAborted
from services.projects.documents.names import MAX_SENT_NAME
from services.projects.documents.upload import DuplicatesPolicy, UploadRequest
from services.projects.metadata import parse_metadata

BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_FILE: Final = {"file": {"type": "string", "format": "binary"}}
_METADATA: Final = {"metadata": {"type": "string", "description": "a JSON object"}}
_DUPLICATES: Final = {"type": "string", "enum": ["reject", "link", "new_version"]}


def _body(fields: dict[str, Any]) -> dict[str, Any]:
    form = {"type": "object", "required": ["file"], "properties": fields}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}, "*/*": BINARY}}}


_BATCH: Final = {"type": "string", "format": "uuid"}
UPLOAD_BODY: Final = _body(
    {**_FILE, "name": {"type": "string"}, **_METADATA, "duplicates": _DUPLICATES, "batch": _BATCH}
)
VERSION_BODY: Final = _body({**_FILE, **_METADATA})

_Metadata = Annotated[str | None, Query(max_length=65536)]


async def _upload_request(
    request: Request,
    name: Annotated[str | None, Query(max_length=MAX_SENT_NAME)] = None,
    metadata: _Metadata = None,
    duplicates: Annotated[DuplicatesPolicy | None, Query()] = None,
    batch: Annotated[UUID | None, Query()] = None,
) -> UploadRequest:
    """What the client declares about an upload; the body is not read yet."""
    upload = await _version_request(request, metadata)
    upload.name, upload.duplicates, upload.batch_id = name, duplicates, batch
    return upload


async def _version_request(request: Request, metadata: _Metadata = None) -> UploadRequest:
    length = request.headers.get("content-length", "")
    return UploadRequest(
        content_type=request.headers.get("content-type"),
        content_length=int(length) if length.isdecimal() else None,
        content_encoding=request.headers.get("content-encoding"),
        user_agent=request.headers.get("user-agent", ""),
        chunks=chunks_of(request),
        metadata=None if metadata is None else parse_metadata(metadata),
    )


async def chunks_of(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises UploadAborted."""
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as error:
        raise UploadAborted from error


Upload = Annotated[UploadRequest, Depends(_upload_request)]
VersionUpload = Annotated[UploadRequest, Depends(_version_request)]
