"""SQL of documents."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.documents.models import BlobDeletion, Document, DocumentStatus
from shared.tenancy import tenant_of


async def by_id(
    session: AsyncSession, *, project_id: uuid.UUID, document_id: uuid.UUID, lock: bool = False
) -> Document | None:
    """A document that is not deleted."""
    statement = select(Document).where(
        Document.project_id == project_id, Document.id == document_id, Document.deleted_at.is_(None)
    )
    return await session.scalar(statement.with_for_update(key_share=True) if lock else statement)


async def page_for_project(
    session: AsyncSession,
    *,
    project_id: uuid.UUID,
    status: DocumentStatus | None,
    name: str | None,
    sha256: str | None,
    after: tuple[datetime, uuid.UUID] | None,
    count: int,
) -> Sequence[Document]:
    """Documents of a project, newest first."""
    statement = select(Document).where(Document.project_id == project_id, Document.deleted_at.is_(None))
    for column, value in ((Document.status, status), (Document.name, name), (Document.sha256, sha256)):
        if value is not None:
            statement = statement.where(column == value)
    if after is not None:
        statement = statement.where(tuple_(Document.created_at, Document.id) < after)
    statement = statement.order_by(Document.created_at.desc(), Document.id.desc()).limit(count)
    return (await session.scalars(statement)).all()


async def first_with_content(
    session: AsyncSession, *, project_id: uuid.UUID, sha256: str, alone: bool
) -> uuid.UUID | None:
    """The oldest document of a project with this content.

    Args:
        alone: lock the content: other callers with `alone` wait until this transaction ends.
    """
    if alone:
        content = f"{tenant_of(session)}/{project_id}/{sha256}"
        lock = select(func.pg_advisory_xact_lock(func.hashtextextended(content, 0)))
        await session.execute(lock.execution_options(tenant_guard="takes a lock and reads no row"))
    found: uuid.UUID | None = await session.scalar(
        select(Document.id)
        .where(Document.project_id == project_id, Document.sha256 == sha256, Document.deleted_at.is_(None))
        .order_by(Document.created_at, Document.id)
        .limit(1)
    )
    return found


async def still_there(session: AsyncSession, document_ids: Sequence[uuid.UUID]) -> set[tuple[uuid.UUID, int]]:
    """Ids and versions of those documents that exist and are not deleted."""
    rows = await session.execute(
        select(Document.id, Document.version).where(Document.id.in_(document_ids), Document.deleted_at.is_(None))
    )
    return {(row[0], row[1]) for row in rows}


async def due_blob_deletions(session: AsyncSession, *, now: datetime, count: int) -> Sequence[BlobDeletion]:
    """Blobs to remove now, of all tenants, locked by this transaction. System access only."""
    statement = (
        select(BlobDeletion)
        .where(BlobDeletion.next_attempt_at <= now)
        .order_by(BlobDeletion.next_attempt_at)
        .limit(count)
        .with_for_update(skip_locked=True)
    )
    return (await session.scalars(statement)).all()


def remember_blob_deletion(session: AsyncSession, document: Document) -> None:
    values: dict[str, Any] = {"project_id": document.project_id, "document_id": document.id}
    session.add(BlobDeletion(**values, version=document.version, attempts=0))
