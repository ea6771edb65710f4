"""The queue of vector changes, and what is left of one after a turn."""

import uuid
from datetime import timedelta
from typing import Final

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents import arrivals, repository
from services.indexing.documents.models import VectorChange
from services.indexing.tenant_turns import queue_by_tenant
from shared.work_queue import ClaimLost, Retry

QUEUE: Final = queue_by_tenant(
    VectorChange,
    tenant_id=VectorChange.tenant_id,
    due_at=VectorChange.due_at,
    attempts=VectorChange.attempts,
    retry=Retry(timedelta(seconds=3), timedelta(seconds=24)),
)


async def settle(session: AsyncSession, change: VectorChange) -> bool:
    """Remove an applied change; one that grew meanwhile is due again. Returns whether it is removed."""
    return await _end_turn(session, change, None, finished=True)


async def go_on(session: AsyncSession, change: VectorChange, position: uuid.UUID | None) -> None:
    """Make the change due again now, behind the others; from `position`, unless it grew."""
    await _end_turn(session, change, position, finished=False)


async def _end_turn(session: AsyncSession, change: VectorChange, position: uuid.UUID | None, *, finished: bool) -> bool:
    try:
        current = await QUEUE.held(session, change)
    except ClaimLost:
        # Another process works on it or has settled it, and this one may have overwritten its metadata.
        if change.describe:
            await repository.enqueue_vector_change(session, change.document_id, describe=True)
        return False
    grew = current.revision != change.revision
    if finished and not grew:
        if change.describe and change.document_id is not None:
            arrivals.announce(session, change.document_id)
        await session.delete(current)
        return True
    current.due_at, current.attempts = func.now(), 0
    if not grew:
        current.position = position
    return False
