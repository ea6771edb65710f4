"""The queue of vector changes: whose turn it is, and what is left afterwards."""

import uuid
from collections.abc import Collection
from datetime import timedelta
from typing import Final

from sqlalchemy import ARRAY, Uuid, and_, bindparam, func
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents import repository
from services.indexing.documents.models import VectorChange
from shared.work_queue import ClaimLost, Retry, WorkQueue

TURN_SECONDS: Final = 20.0

QUEUE: Final = WorkQueue(
    VectorChange,
    due_at=VectorChange.due_at,
    claim=timedelta(seconds=TURN_SECONDS + 4),
    attempts=VectorChange.attempts,
    retry=Retry(timedelta(seconds=3), timedelta(seconds=24)),
    due=and_(
        VectorChange.tenant_id > bindparam("after", type_=Uuid()),
        VectorChange.tenant_id != func.all(bindparam("excluded", type_=ARRAY(Uuid()))),
        VectorChange.due_at <= func.now(),
    ),
    order=(VectorChange.tenant_id, VectorChange.due_at),
)


async def claim(session: AsyncSession, *, after: uuid.UUID, but: Collection[uuid.UUID]) -> VectorChange | None:
    """The change of the next tenant, round robin by id, that has waited longest. One look at the index per claim."""
    for first in (after, uuid.UUID(int=0)):
        change = await QUEUE.claim(session, after=first, excluded=list(but))
        if change is not None:
            return change
    return None


async def settle(session: AsyncSession, change: VectorChange) -> None:
    """Remove an applied change; one that grew meanwhile is due again."""
    await _end_turn(session, change, None, finished=True)


async def go_on(session: AsyncSession, change: VectorChange, position: uuid.UUID | None) -> None:
    """Make the change due again now, behind the others; from `position`, unless it grew."""
    await _end_turn(session, change, position, finished=False)


async def _end_turn(session: AsyncSession, change: VectorChange, position: uuid.UUID | None, *, finished: bool) -> None:
    try:
        current = await QUEUE.held(session, change)
    except ClaimLost:
        # Another process works on it or has settled it, and this one may have overwritten its metadata.
        if change.describe:
            await repository.enqueue_vector_change(session, change.document_id, describe=True)
        return
    grew = current.revision != change.revision
    if finished and not grew:
        await session.delete(current)
        return
    current.due_at, current.attempts = func.now(), 0
    if not grew:
        current.position = position
