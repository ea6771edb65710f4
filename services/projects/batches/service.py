"""Batches: many documents, one status."""

import uuid
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.batches import counting, repository
from services.projects.batches.models import Batch
from services.projects.documents import bulk
from services.projects.documents import service as documents
from services.projects.documents.models import Document, DocumentStatus
from services.projects.projects.service import authorize
from services.projects.tenants import service as tenants
from services.projects.tenants.service import Quotas
from shared.auth import Principal, Scope
from shared.errors import NotFound, QuotaExceeded
from shared.pagination import cut_page, decode_cursor
from shared.transactions import TenantTransactions


async def create(
    session: AsyncSession,
    principal: Principal,
    quotas: Quotas,
    *,
    project_id: uuid.UUID,
    name: str,
    expected: int | None,
) -> Batch:
    """A new batch, which closes by itself once it has `expected` documents, or when it is told to.

    Raises:
        QuotaExceeded: the tenant has as many open batches as it may.
    """
    await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)
    # Requests of one tenant are counted one after the other.
    await tenants.take(session, quotas)
    used = await repository.count_open(session)
    if used >= quotas.open_batches:
        raise QuotaExceeded("open_batches", limit=quotas.open_batches, used=used)
    batch = Batch(project_id=project_id, name=name, expected=expected, created_by=principal.user_id)
    session.add(batch)
    await session.flush()
    return batch


async def get(session: AsyncSession, principal: Principal, *, project_id: uuid.UUID, batch_id: uuid.UUID) -> Batch:
    await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_READ)
    return await _found(session, project_id, batch_id)


async def page(
    session: AsyncSession, principal: Principal, *, project_id: uuid.UUID, limit: int, cursor: str | None
) -> tuple[list[Batch], str | None]:
    await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_READ)
    rows = await repository.page(session, project_id=project_id, after=decode_cursor(cursor), count=limit + 1)
    return cut_page(rows, limit, lambda batch: (batch.created_at, batch.id))


async def items(
    session: AsyncSession,
    principal: Principal,
    *,
    project_id: uuid.UUID,
    batch_id: uuid.UUID,
    status: DocumentStatus | None,
    limit: int,
    cursor: str | None,
) -> tuple[list[Document], str | None]:
    """Documents of the batch that are not deleted, newest first."""
    await get(session, principal, project_id=project_id, batch_id=batch_id)
    return await documents.page(
        session,
        principal,
        project_id=project_id,
        batch_id=batch_id,
        status=status,
        name=None,
        sha256=None,
        limit=limit,
        cursor=cursor,
    )


async def close(session: AsyncSession, principal: Principal, *, project_id: uuid.UUID, batch_id: uuid.UUID) -> Batch:
    """Let no more documents into the batch; one that is closed already stays as it is."""
    await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)
    await _found(session, project_id, batch_id)
    batch = await repository.locked(session, batch_id)
    if batch.closed_at is None:
        batch.closed_at = datetime.now(UTC)
        batch.revision += 1
        counting.complete_if_done(session, batch)
    return batch


async def cancel(
    transactions: TenantTransactions,
    principal: Principal,
    *,
    project_id: uuid.UUID,
    batch_id: uuid.UUID,
    cursor: str | None,
) -> tuple[Batch, int, str | None]:
    """Close the batch, and ask indexing to stop with its unfinished documents, `bulk.MOST` at a time; returns how many
    were asked for now, and where to go on."""
    async with transactions.begin() as session:
        batch = await close(session, principal, project_id=project_id, batch_id=batch_id)
        if batch.cancelled_at is None:
            batch.cancelled_at = datetime.now(UTC)
            batch.revision += 1
    affected, next_cursor = await bulk.run(
        transactions,
        principal,
        project_id=project_id,
        action="cancel",
        wanted=bulk.Wanted(batch_id=batch_id),
        limit=bulk.MOST,
        cursor=cursor,
    )
    return batch, affected, next_cursor


async def _found(session: AsyncSession, project_id: uuid.UUID, batch_id: uuid.UUID) -> Batch:
    batch = await repository.by_id(session, project_id=project_id, batch_id=batch_id)
    if batch is None:
        raise NotFound
    return batch
