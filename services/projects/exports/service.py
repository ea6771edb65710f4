"""Exports: who may have one, and their life. `making` makes them and removes them.

An export holds content, metadata and members, so it is for those who may read and administer all of it: owners of the
project, or owners and admins of the tenant. For others it does not exist. They are asked for their rights with every
request, and during a download too.
"""

import uuid

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.blobs.store import BlobStore, OpenBlob
from services.projects.documents.authority_watch import while_allowed
from services.projects.exports import repository
from services.projects.exports.errors import ExportNotReady
from services.projects.exports.models import Export
from services.projects.projects.repository import Holder
from services.projects.projects.service import authorize, locked
from services.projects.tenants import service as tenants
from services.projects.tenants.service import Quotas
from shared.auth import Principal, Scope
from shared.authority_client import Authority
from shared.errors import Forbidden, NotFound, QuotaExceeded
from shared.pagination import cut_page, decode_cursor
from shared.transactions import TenantTransactions


async def create(
    session: AsyncSession, principal: Principal, quotas: Quotas, *, project_id: uuid.UUID | None
) -> Export:
    """Request an export of a project, or of all projects.

    Raises:
        NotFound: no such project, or the tenant is deleted.
        Forbidden: the caller is no owner of it.
        QuotaExceeded: the tenant has as many exports, or as many under way, as it may.
    """
    await _authorize(session, principal, project_id, lock=True)
    # Requests of one tenant are counted one after the other.
    await tenants.take(session, quotas)
    under_way, kept = await repository.counts(session)
    for quota, limit, used in (
        ("exports_under_way", quotas.exports_under_way, under_way),
        ("exports", quotas.exports, kept),
    ):
        if used >= limit:
            raise QuotaExceeded(quota, limit=limit, used=used)
    export = Export(project_id=project_id, requested_by=principal.user_id)
    session.add(export)
    await session.flush()
    return export


async def get(session: AsyncSession, principal: Principal, *, export_id: uuid.UUID, lock: bool = False) -> Export:
    export = await repository.by_id(session, export_id=export_id, lock=lock)
    if export is None:
        raise NotFound
    try:
        await _authorize(session, principal, export.project_id)
    except Forbidden as error:
        raise NotFound from error
    return export


async def page(
    session: AsyncSession, principal: Principal, *, limit: int, cursor: str | None
) -> tuple[list[Export], str | None]:
    """Exports the caller may have, newest first.

    Raises:
        Forbidden: the credential reads no documents.
    """
    if Scope.DOCUMENTS_READ not in principal.limit:
        raise Forbidden
    of_tenant = principal.is_tenant_admin and principal.project_id is None and Scope.TENANT_ADMIN in principal.limit
    rows = await repository.page(
        session,
        of_tenant=of_tenant,
        of_projects=Scope.PROJECTS_WRITE in principal.limit,
        only_project=principal.project_id,
        owned_by=None if principal.is_tenant_admin else Holder(principal.user_id, principal.membership_number),
        after=decode_cursor(cursor),
        count=limit + 1,
    )
    return cut_page(rows, limit, lambda export: (export.created_at, export.id))


async def delete(session: AsyncSession, principal: Principal, *, export_id: uuid.UUID) -> None:
    """The export is gone at once; an attempt that is under way ends, and what it wrote is removed soon."""
    export = await get(session, principal, export_id=export_id, lock=True)
    export.status = "deleted"
    export.due_at = func.now()


async def content(
    transactions: TenantTransactions,
    principal: Principal,
    authority: Authority,
    blobs: BlobStore,
    *,
    export_id: uuid.UUID,
) -> tuple[Export, OpenBlob]:
    """The archive, for a client. A long transfer ends soon after the export is gone or the right to it is revoked.

    Raises:
        ExportNotReady: there is none.
    """

    async def check() -> None:
        now = await authority.now(principal)
        async with transactions.begin() as session:
            await get(session, now, export_id=export_id)

    async with transactions.begin() as session:
        export = await get(session, principal, export_id=export_id)
    if export.status != "ready":
        raise ExportNotReady
    blob = await blobs.open(export.blob_key(export.attempts))
    blob.watched_by(lambda chunks: while_allowed(chunks, check))
    return export, blob


async def _authorize(
    session: AsyncSession, principal: Principal, project_id: uuid.UUID | None, *, lock: bool = False
) -> None:
    """Raises NotFound or Forbidden."""
    if project_id is None:
        principal.require(Scope.TENANT_ADMIN)
        principal.require(Scope.DOCUMENTS_READ)
    else:
        if lock:
            await locked(session, principal, project_id=project_id, scope=Scope.PROJECTS_WRITE)
        for scope in (Scope.PROJECTS_WRITE, Scope.DOCUMENTS_READ):
            await authorize(session, principal, project_id=project_id, scope=scope)
