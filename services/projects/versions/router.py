"""HTTP routes of versions. Their content is fetched where the document's is: `.../content?version=`."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Path, Response

from services.projects.dependencies import Blobs, CurrentAuthority, MaxDocumentBytes, TenantQuotas
from services.projects.documents.models import Document
from services.projects.documents.schemas import DocumentOut
from services.projects.documents.upload_bodies import VERSION_BODY, VersionUpload
from services.projects.versions import service
from services.projects.versions.schemas import VersionOut
from shared.current_principal import CurrentPrincipal
from shared.etags import IfMatch, etag
from shared.pagination import Cursor, Limit, Page
from shared.session_dependencies import CallerTransactions, TenantSession

router = APIRouter(prefix="/v1/projects/{project_id}/documents/{document_id}/versions", tags=["Documents"])

Version = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("")
async def list_versions(
    session: TenantSession,
    principal: CurrentPrincipal,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[VersionOut]:
    """Versions of a document's content, newest first. The bytes of each: `.../content?version=`."""
    versions, next_cursor = await service.page(
        session, principal, project_id=project_id, document_id=document_id, limit=limit, cursor=cursor
    )
    return Page(items=[VersionOut.of(version) for version in versions], next_cursor=next_cursor)


@router.post("", status_code=201, openapi_extra=VERSION_BODY)
async def upload_version(
    transactions: CallerTransactions,
    principal: CurrentPrincipal,
    authority: CurrentAuthority,
    blobs: Blobs,
    quotas: TenantQuotas,
    limit: MaxDocumentBytes,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    upload: VersionUpload,
    response: Response,
    if_match: IfMatch = None,
) -> DocumentOut:
    """Upload new content for a document: a multipart form with a part named `file`, or the raw bytes.

    The document keeps its name; `metadata`, if sent, replaces its metadata. Search finds the live version until the new
    one is indexed, and from then on only the new one; if indexing fails or is cancelled, the live version stays.
    `If-Match` is optional.
    """
    document = await service.upload(
        transactions,
        principal,
        authority,
        blobs,
        quotas,
        project_id=project_id,
        document_id=document_id,
        if_match=if_match,
        request=upload,
        limit=limit,
    )
    return _answer(response, document)


@router.post("/{version}/restore", status_code=201)
async def restore_version(
    session: TenantSession,
    principal: CurrentPrincipal,
    quotas: TenantQuotas,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    version: Version,
    response: Response,
    if_match: IfMatch = None,
) -> DocumentOut:
    """Make the content of an older version the document's newest version. `If-Match` is optional."""
    document = await service.restore(
        session,
        principal,
        quotas,
        project_id=project_id,
        document_id=document_id,
        number=version,
        if_match=if_match,
    )
    return _answer(response, document)


def _answer(response: Response, document: Document) -> DocumentOut:
    response.headers["Location"] = (
        f"/v1/projects/{document.project_id}/documents/{document.id}/content?version={document.version}"
    )
    response.headers["ETag"] = etag(document.revision)
    return DocumentOut.of(document)
