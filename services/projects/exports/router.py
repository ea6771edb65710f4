"""HTTP routes of exports."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Body, Request, Response

from services.projects.dependencies import Blobs, CurrentAuthority, TenantQuotas
from services.projects.documents.content import CONTENT_RESPONSES, download
from services.projects.exports import service
from services.projects.exports.archive import ZIP_TYPE, file_name
from services.projects.exports.models import Export
from services.projects.exports.schemas import ExportCreate, ExportOut
from shared.current_principal import CurrentPrincipal
from shared.etags import etag
from shared.pagination import Cursor, Limit, Page
from shared.session_dependencies import CallerTransactions, TenantSession

router = APIRouter(prefix="/v1/exports", tags=["Exports"])


@router.post("", status_code=202)
async def create_export(
    session: TenantSession,
    principal: CurrentPrincipal,
    quotas: TenantQuotas,
    response: Response,
    body: Annotated[ExportCreate | None, Body()] = None,
) -> ExportOut:
    """Export a project, or all projects of the tenant: a ZIP archive of every version of every document, with a
    `manifest.json` that describes them, the projects and their members.

    For owners of the project, or owners and admins of the tenant. Poll the export until its status is `ready`.
    """
    project_id = None if body is None else body.project_id
    export = await service.create(session, principal, quotas, project_id=project_id)
    response.headers["Location"] = f"/v1/exports/{export.id}"
    return _answer(response, export)


@router.get("")
async def list_exports(
    session: TenantSession, principal: CurrentPrincipal, limit: Limit = 50, cursor: Cursor = None
) -> Page[ExportOut]:
    """Exports that you may download, newest first."""
    exports, next_cursor = await service.page(session, principal, limit=limit, cursor=cursor)
    return Page(items=[ExportOut.of(export) for export in exports], next_cursor=next_cursor)


@router.get("/{export_id}")
async def get_export(
    session: TenantSession, principal: CurrentPrincipal, export_id: uuid.UUID, response: Response
) -> ExportOut:
    """One export with its progress. With `If-None-Match`, polling costs a 304 while nothing has changed."""
    return _answer(response, await service.get(session, principal, export_id=export_id))


@router.get("/{export_id}/content", response_class=Response, responses=CONTENT_RESPONSES)
async def export_content(
    transactions: CallerTransactions,
    principal: CurrentPrincipal,
    authority: CurrentAuthority,
    blobs: Blobs,
    export_id: uuid.UUID,
    request: Request,
) -> Response:
    """The archive; supports `Range` and `If-Range`, so that a download can be resumed. 409 until it is ready."""
    export, blob = await service.content(transactions, principal, authority, blobs, export_id=export_id)
    return await download(
        request,
        blob,
        name=file_name(export),
        content_type=ZIP_TYPE,
        sha256=export.sha256 or "",
        modified=export.finished_at or export.created_at,
    )


@router.delete("/{export_id}", status_code=204)
async def delete_export(session: TenantSession, principal: CurrentPrincipal, export_id: uuid.UUID) -> None:
    """Delete an export, or stop making it."""
    await service.delete(session, principal, export_id=export_id)


def _answer(response: Response, export: Export) -> ExportOut:
    response.headers["ETag"] = etag(export.revision)
    return ExportOut.of(export)
