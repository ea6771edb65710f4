"""SQL of batches."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.batches.models import Batch

_LOCKED: Final = (
    select(Batch)
    .where(Batch.id == bindparam("batch_id"))
    .with_for_update(key_share=True)
    .execution_options(populate_existing=True)
)


async def by_id(session: AsyncSession, *, project_id: uuid.UUID, batch_id: uuid.UUID) -> Batch | None:
    return await session.scalar(select(Batch).where(Batch.project_id == project_id, Batch.id == batch_id))


async def locked(session: AsyncSession, batch_id: uuid.UUID) -> Batch:
    """A batch that a document belongs to, or that was found in this transaction."""
    return (await session.scalars(_LOCKED, {"batch_id": batch_id})).one()


async def count_open(session: AsyncSession) -> int:
    """Open batches of the tenant."""
    return await session.scalar(select(func.count(Batch.id)).where(Batch.closed_at.is_(None))) or 0


async def page(
    session: AsyncSession, *, project_id: uuid.UUID, after: tuple[datetime, uuid.UUID] | None, count: int
) -> Sequence[Batch]:
    """Batches of a project, newest first."""
    statement = select(Batch).where(Batch.project_id == project_id)
    if after is not None:
        statement = statement.where(tuple_(Batch.created_at, Batch.id) < after)
    return (await session.scalars(statement.order_by(Batch.created_at.desc(), Batch.id.desc()).limit(count))).all()
