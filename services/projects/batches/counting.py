"""The counts of batches, kept with every change of a document's status.

Changes are collected while a transaction runs, and applied as its last step, to one batch after the other in the order
of their ids: no transaction holds a batch while it waits for a document. In that step a closed batch refuses documents
that would join it, one that has all the documents it expects is closed, and one that is closed and has no unfinished
document left is completed, which is announced.
"""

import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.batches import repository
from services.projects.batches.errors import BatchClosed
from services.projects.batches.models import Batch, ItemState
from shared import outbox
from shared.errors import NotFound
from shared.events.projects import BatchCompleted
from shared.tenancy import before_commit

_CHANGES: Final = "batch_changes"
_JOINED: Final = "joined"

Changes = dict[uuid.UUID, Counter[str]]


async def expect_open(session: AsyncSession, *, project_id: uuid.UUID, batch_id: uuid.UUID) -> None:
    """Refuse a document before it is stored; the end of the transaction decides.

    Raises:
        NotFound: the project has no such batch.
        BatchClosed: it takes no more documents.
    """
    batch = await repository.by_id(session, project_id=project_id, batch_id=batch_id)
    if batch is None:
        raise NotFound
    if batch.closed_at is not None:
        raise BatchClosed


def join(session: AsyncSession, batch_id: uuid.UUID | None, state: ItemState) -> None:
    """Count a document that the transaction adds to the batch; no batch is none to count in.

    The end of the transaction raises BatchClosed if the batch was closed meanwhile.
    """
    if batch_id is not None:
        _changes_of(session, batch_id).update({state: 1, _JOINED: 1})


def move(session: AsyncSession, batch_id: uuid.UUID | None, before: ItemState, after: ItemState | None) -> None:
    """Count a document of the batch in its new state; None when it leaves the batch."""
    if batch_id is not None and before != after:
        changes = _changes_of(session, batch_id)
        changes[before] -= 1
        if after is not None:
            changes[after] += 1


def complete_if_done(session: AsyncSession, batch: Batch) -> None:
    """Complete a locked batch, once, if it is closed and none of its documents is unfinished."""
    if batch.closed_at is None or batch.completed_at is not None or batch.queued or batch.indexing:
        return
    batch.completed_at = datetime.now(UTC)
    event = BatchCompleted(
        project_id=batch.project_id,
        batch_id=batch.id,
        name=batch.name,
        indexed=batch.indexed,
        failed=batch.failed,
        cancelled=batch.cancelled,
        deleted=batch.deleted,
    )
    outbox.publish(session, event, sequence=1)


def _changes_of(session: AsyncSession, batch_id: uuid.UUID) -> Counter[str]:
    changes: Changes | None = session.info.get(_CHANGES)
    if changes is None:
        changes = session.info[_CHANGES] = {}
        before_commit(session, _apply)
    return changes.setdefault(batch_id, Counter())


async def _apply(session: AsyncSession) -> None:
    changes: Changes = session.info.pop(_CHANGES)
    await session.flush()
    for batch_id in sorted(changes):
        batch = await repository.locked(session, batch_id)
        joined = changes[batch_id].pop(_JOINED, 0)
        if joined and batch.closed_at is not None:
            raise BatchClosed
        for state, change in changes[batch_id].items():
            setattr(batch, state, getattr(batch, state) + change)
        batch.revision += 1
        if batch.closed_at is None and batch.expected is not None and batch.total >= batch.expected:
            batch.closed_at = datetime.now(UTC)
        complete_if_done(session, batch)
    await session.flush()
