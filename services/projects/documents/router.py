"""HTTP routes of documents."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from services.projects.dependencies import (
    Blobs,
    ContentReader,
    ContentTurns,
    CurrentAuthority,
    MaxDocumentBytes,
    TenantQuotas,
)
from services.projects.documents import bulk, service
from services.projects.documents.content import CONTENT_RESPONSES, content_response
from services.projects.documents.models import Document, DocumentStatus
from services.projects.documents.names import MAX_SENT_NAME
from services.projects.documents.schemas import BulkOut, BulkRequest, DocumentOut, DocumentPatch
from services.projects.documents.upload_bodies import UPLOAD_BODY, Upload
from shared.current_principal import CurrentPrincipal
from shared.etags import IfMatch, etag
from shared.pagination import Cursor, Limit, Page
from shared.session_dependencies import CallerTransactions, TenantSession

router = APIRouter(prefix="/v1/projects/{project_id}/documents", tags=["Documents"])
internal_router = APIRouter(prefix="/internal/projects/{project_id}/documents", include_in_schema=False)

_UNCHANGED: dict[int | str, dict[str, Any]] = {
    200: {"model": DocumentOut, "description": "With `duplicates=new_version`: the document that has the content."}
}


_MOST = 2**31 - 1
Version = Annotated[int, Path(ge=1, le=_MOST)]
WantedVersion = Annotated[int | None, Query(ge=1, le=_MOST)]
Sha256 = Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")]
# Names hold no control characters, and Postgres takes no NUL.
NameFilter = Annotated[str | None, Query(max_length=MAX_SENT_NAME, pattern=r"^[^\x00-\x1f]*$")]


@router.post("", status_code=201, openapi_extra=UPLOAD_BODY, responses=_UNCHANGED)
async def upload_document(
    transactions: CallerTransactions,
    principal: CurrentPrincipal,
    authority: CurrentAuthority,
    blobs: Blobs,
    quotas: TenantQuotas,
    turns: ContentTurns,
    limit: MaxDocumentBytes,
    project_id: uuid.UUID,
    upload: Upload,
    response: Response,
) -> DocumentOut:
    """Upload a document: a multipart form with a part named `file`, or the raw bytes with `?name=`.

    Either may be sent with `Content-Encoding: gzip`; the decompressed content is stored. The parts of a form may come
    in any order, and unknown parts are ignored.

    `duplicates` decides what happens to content that a document of the project has as its newest version:

    - `reject`: the response is 409 `duplicate_document`; its `document_id` is that document's.
    - `link`: a document with a name and metadata of its own, but `linked`: it shares the bytes of `duplicate_of` and is
      not indexed again; search finds the content once, under `duplicate_of`. When that document is deleted or gets a
      new version, the link is indexed by itself.
    - `new_version`: the response is 200 with that document, unchanged. Other content becomes a new version of the
      project's newest document with the same name, and a document of its own only if there is none.

    A document that is uploaded with `batch` belongs to that batch, and one that gets a new version so goes over to it.

    Without `duplicates` it is stored and indexed as a separate document whose `duplicate_of` is the first one.
    """
    stored = await service.upload(
        transactions, principal, authority, blobs, quotas, turns, project_id=project_id, request=upload, limit=limit
    )
    response.status_code = 201 if stored.changed else 200
    response.headers["Location"] = f"/v1/projects/{project_id}/documents/{stored.document.id}"
    return _answer(response, stored.document)


@router.get("")
async def list_documents(
    session: TenantSession,
    principal: CurrentPrincipal,
    project_id: uuid.UUID,
    status: DocumentStatus | None = None,
    name: NameFilter = None,
    sha256: Sha256 = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DocumentOut]:
    """Documents of a project, newest first. `sha256` and `name` match exactly, after `name` is normalized as for an
    upload: to Unicode NFC, without folders."""
    documents, next_cursor = await service.page(
        session,
        principal,
        project_id=project_id,
        status=status,
        name=name,
        sha256=sha256,
        limit=limit,
        cursor=cursor,
    )
    return Page(items=[DocumentOut.of(document) for document in documents], next_cursor=next_cursor)


@router.post("/bulk")
async def act_on_documents(
    transactions: CallerTransactions, principal: CurrentPrincipal, project_id: uuid.UUID, body: BulkRequest
) -> BulkOut:
    """Cancel, retry or delete documents by status, name, batch or metadata, newest first; those for which the action is
    not possible are left out. One request looks at 5,000 documents and acts on at most `limit` of them: send
    `next_cursor` again until it is null, even when nothing was affected."""
    affected, next_cursor = await bulk.run(
        transactions,
        principal,
        project_id=project_id,
        action=body.action,
        wanted=body.filter.wanted(),
        limit=body.limit,
        cursor=body.cursor,
    )
    return BulkOut(affected=affected, next_cursor=next_cursor)


@router.get("/{document_id}")
async def get_document(
    session: TenantSession,
    principal: CurrentPrincipal,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    response: Response,
) -> DocumentOut:
    """One document."""
    document = await service.get(session, principal, project_id=project_id, document_id=document_id)
    return _answer(response, document)


@router.patch("/{document_id}")
async def update_document(
    session: TenantSession,
    principal: CurrentPrincipal,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    body: DocumentPatch,
    response: Response,
    if_match: IfMatch = None,
) -> DocumentOut:
    """Change the name or metadata; `metadata` is replaced as a whole. `If-Match` is optional."""
    changes = body.model_dump(exclude_unset=True)
    document = await service.update(
        session,
        principal,
        project_id=project_id,
        document_id=document_id,
        if_match=if_match,
        changes=changes,
    )
    return _answer(response, document)


@router.delete("/{document_id}", status_code=204)
async def delete_document(
    session: TenantSession,
    principal: CurrentPrincipal,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    if_match: IfMatch = None,
) -> None:
    """Delete a document permanently. It disappears at once; its bytes are removed shortly after."""
    await service.delete(session, principal, project_id=project_id, document_id=document_id, if_match=if_match)


@router.post("/{document_id}/cancel", status_code=202)
async def cancel_document(
    session: TenantSession,
    principal: CurrentPrincipal,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    response: Response,
) -> DocumentOut:
    """Cancel indexing. The status becomes `cancelled` when indexing has stopped, unless it had just finished."""
    document = await service.cancel(session, principal, project_id=project_id, document_id=document_id)
    return _answer(response, document)


@router.post("/{document_id}/retry", status_code=202)
async def retry_document(
    session: TenantSession,
    principal: CurrentPrincipal,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    response: Response,
) -> DocumentOut:
    """Retry indexing of a failed or cancelled document."""
    document = await service.retry(session, principal, project_id=project_id, document_id=document_id)
    return _answer(response, document)


@router.get("/{document_id}/content", response_class=Response, responses=CONTENT_RESPONSES)
async def document_content(
    transactions: CallerTransactions,
    principal: CurrentPrincipal,
    authority: CurrentAuthority,
    blobs: Blobs,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    request: Request,
    version: WantedVersion = None,
) -> Response:
    """The bytes as uploaded, of the newest version or of another one; supports `Range`, `If-Range`, and conditions on
    `ETag` and `Last-Modified`."""
    document, wanted, blob = await service.content(
        transactions, principal, authority, blobs, project_id=project_id, document_id=document_id, version=version
    )
    return await content_response(request, wanted, blob, name=document.name, elsewhere=True)


@internal_router.get("/{document_id}/versions/{version}/content", response_class=Response)
async def version_content(
    transactions: CallerTransactions,
    _caller: ContentReader,
    blobs: Blobs,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    version: Version,
    request: Request,
) -> Response:
    """The bytes of one version, with their type as declared, for the service that indexes them."""
    document, wanted, blob = await service.version_content(
        transactions, blobs, project_id=project_id, document_id=document_id, version=version
    )
    return await content_response(request, wanted, blob, name=document.name, content_type=wanted.declared_type)


def _answer(response: Response, document: Document) -> DocumentOut:
    response.headers["ETag"] = etag(document.revision)
    return DocumentOut.of(document)
