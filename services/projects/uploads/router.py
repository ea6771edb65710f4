"""HTTP routes of resumable uploads: tus 1.0.0 (https://tus.io/protocols/resumable-upload)."""

import uuid
from email.utils import format_datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Request, Response

from services.projects.documents.upload_bodies import BINARY, chunks_of
from services.projects.uploads import service
from services.projects.uploads.dependencies import Uploads
from services.projects.uploads.errors import InvalidUploadHeader, NotAPiece, UnsupportedProtocol
from services.projects.uploads.models import Upload
from services.projects.uploads.protocol import PIECE, VERSION, Checksum, Declared
from services.projects.uploads.receiving import Piece
from services.projects.uploads.schemas import UploadOut
from shared.content_coding import is_compressed
from shared.current_principal import CurrentPrincipal
from shared.http_semantics import wants_body
from shared.session_dependencies import CallerTransactions

router = APIRouter(prefix="/v1/projects/{project_id}/uploads", tags=["Uploads"])

_MOST: Final = 2**62
TusResumable = Annotated[str | None, Header(alias="Tus-Resumable", max_length=64)]
UploadLength = Annotated[int | None, Header(alias="Upload-Length", ge=0, le=_MOST)]
UploadOffset = Annotated[int, Header(alias="Upload-Offset", ge=0, le=_MOST)]
UploadMetadata = Annotated[str, Header(alias="Upload-Metadata", max_length=16 * 1024)]
UploadChecksum = Annotated[str | None, Header(alias="Upload-Checksum", max_length=256)]
DeferLength = Annotated[str | None, Header(alias="Upload-Defer-Length", max_length=8)]
_BODY: Final[dict[str, Any]] = {"requestBody": {"content": {PIECE: BINARY}}}
_DONE: Final = {"description": "The new `Upload-Offset`; with the last byte, `Quarry-Document-Id` names the document."}


async def _speaks_tus(tus_resumable: TusResumable = None) -> None:
    if tus_resumable != VERSION:
        raise UnsupportedProtocol


async def _speaks_tus_or_http(tus_resumable: TusResumable = None) -> bool:
    if tus_resumable is not None:
        await _speaks_tus(tus_resumable)
    return tus_resumable is not None


SPEAKS_TUS: Final = [Depends(_speaks_tus)]
SpeaksTus = Annotated[bool, Depends(_speaks_tus_or_http)]


@router.post("", status_code=201, response_class=Response, openapi_extra=_BODY, dependencies=SPEAKS_TUS)
async def create_upload(
    transactions: CallerTransactions,
    principal: CurrentPrincipal,
    uploads: Uploads,
    project_id: uuid.UUID,
    request: Request,
    upload_metadata: UploadMetadata = "",
    upload_length: UploadLength = None,
    upload_defer_length: DeferLength = None,
    upload_checksum: UploadChecksum = None,
) -> Response:
    """Begin a resumable upload (tus 1.0.0: creation, creation-with-upload, creation-defer-length, checksum,
    expiration, termination; `OPTIONS` names them, and the largest size).

    `Upload-Metadata` needs `filename` or `name`; `filetype`, `metadata`, a JSON object, and `duplicates` mean what they
    mean for `POST .../documents`. The upload is at `Location`. Without progress it is removed at `Upload-Expires`.
    """
    if (upload_length is None) == (upload_defer_length is None) or upload_defer_length not in (None, "1"):
        raise InvalidUploadHeader("Send either `Upload-Length` or `Upload-Defer-Length: 1`.")
    upload = await service.create(
        uploads,
        transactions,
        principal,
        project_id=project_id,
        declared=Declared.of(upload_metadata),
        sent_metadata=upload_metadata,
        length=upload_length,
        piece=_piece(request, 0, upload_checksum) if _has_body(request) else None,
    )
    response = _answer(Response(status_code=201), upload)
    response.headers["Location"] = f"/v1/projects/{project_id}/uploads/{upload.id}"
    return response


@router.get("/{upload_id}")
async def get_upload(
    transactions: CallerTransactions,
    principal: CurrentPrincipal,
    uploads: Uploads,
    speaks_tus: SpeaksTus,
    project_id: uuid.UUID,
    upload_id: uuid.UUID,
    request: Request,
    response: Response,
) -> UploadOut:
    """An upload, and the document that it has become.

    `HEAD` with `Tus-Resumable` asks for the `Upload-Offset` at which to go on: a request that still adds to the upload
    is ended, and what it has sent counts.
    """
    which: dict[str, Any] = {"project_id": project_id, "upload_id": upload_id}
    if speaks_tus and not wants_body(request.scope):
        upload = await service.resume(uploads, transactions, principal, **which)
    else:
        upload = await service.look_at(transactions, principal, **which)
    _answer(response, upload)
    if upload.length is None:
        response.headers["Upload-Defer-Length"] = "1"
    else:
        response.headers["Upload-Length"] = str(upload.length)
    if upload.sent_metadata:
        response.headers["Upload-Metadata"] = upload.sent_metadata
    return UploadOut.of(upload)


@router.patch(
    "/{upload_id}",
    status_code=204,
    response_class=Response,
    openapi_extra=_BODY,
    responses={204: _DONE},
    dependencies=SPEAKS_TUS,
)
async def append_to_upload(
    transactions: CallerTransactions,
    principal: CurrentPrincipal,
    uploads: Uploads,
    project_id: uuid.UUID,
    upload_id: uuid.UUID,
    request: Request,
    upload_offset: UploadOffset,
    upload_length: UploadLength = None,
    upload_checksum: UploadChecksum = None,
) -> Response:
    """Add bytes where the upload ends. With the last one it becomes a document, as `duplicates` says; content that is
    refused then is 422 `duplicate_document`, and the upload is removed.

    What has arrived of a request that is cut off counts, unless it came with `Upload-Checksum`.
    """
    piece = _piece(request, upload_offset, upload_checksum, upload_length)
    upload = await service.append(
        uploads, transactions, principal, project_id=project_id, upload_id=upload_id, piece=piece
    )
    return _answer(Response(status_code=204), upload)


@router.delete("/{upload_id}", status_code=204, dependencies=SPEAKS_TUS)
async def terminate_upload(
    transactions: CallerTransactions,
    principal: CurrentPrincipal,
    uploads: Uploads,
    project_id: uuid.UUID,
    upload_id: uuid.UUID,
) -> None:
    """End an upload and remove what has arrived; a document that it has become stays."""
    await service.terminate(uploads, transactions, principal, project_id=project_id, upload_id=upload_id)


def _has_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def _piece(request: Request, offset: int, checksum: str | None, length: int | None = None) -> Piece:
    """The body.

    Raises:
        NotAPiece: it is of another type.
    """
    headers = request.headers
    if headers.get("content-type", "").strip().lower() != PIECE or is_compressed(headers.get("content-encoding")):
        raise NotAPiece
    size = headers.get("content-length", "")
    return Piece(
        offset=offset,
        chunks=chunks_of(request),
        size=int(size) if size.isdecimal() else None,
        length=length,
        checksum=None if checksum is None else Checksum.of(checksum),
    )


def _answer(response: Response, upload: Upload) -> Response:
    response.headers["Upload-Offset"] = str(upload.received)
    response.headers["Upload-Expires"] = format_datetime(upload.expires_at, usegmt=True)
    response.headers["Cache-Control"] = "no-store"
    if upload.document_id is not None:
        response.headers["Quarry-Document-Id"] = str(upload.document_id)
    return response
