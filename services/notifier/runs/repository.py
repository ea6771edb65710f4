"""SQL of the feeds of runs. Every statement runs in a transaction bound to one tenant."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Interval, Uuid, bindparam, delete, exists, func, inspect, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import ReturningInsert

from services.notifier.feeds.models import DeletedTenant
from services.notifier.feeds.repository import FeedKey, Head, StoredEvent, keep_tenant
from services.notifier.runs.models import RunFeed, RunFeedEvent
from shared.tenancy import inserting, tenant_of

_GONE: Final = Head(last=0, first_kept=2**62)
"""The head of a feed whose events are gone: none of them is kept."""


@dataclass(frozen=True, slots=True)
class NewRunEvent:
    """An event about to be appended; see `RunFeedEvent`."""

    run_id: uuid.UUID
    project_id: uuid.UUID
    sequence: int
    type: str
    time: datetime
    data: dict[str, Any]
    traceparent: str | None


def _hold() -> ReturningInsert[*tuple[Any, ...]]:
    """Begin the feed or keep it longer; its row is locked until the transaction ends."""
    names = ("run_id", "project_id")
    values = [bindparam(f"held_{name}", type_=Uuid()) for name in names]
    later = func.now() + bindparam("kept_for", type_=Interval)
    deleted = exists(DeletedTenant.tenant_id).where(DeletedTenant.tenant_id == bindparam("tenant", type_=Uuid()))
    statement = inserting(RunFeed).from_select([*names, "due_at"], select(*values, later).where(~deleted))
    feed = statement.table.c
    return statement.on_conflict_do_update(index_elements=["tenant_id", "run_id"], set_={"due_at": later}).returning(
        feed.last_sequence, feed.trimmed
    )


_HOLD: Final = _hold()
_COLUMNS: Final = tuple(column for column in inspect(RunFeedEvent).columns if column.name != "tenant_id")
_ADD: Final = (
    inserting(RunFeedEvent)
    .values({column.name: bindparam(f"new_{column.name}", type_=column.type) for column in _COLUMNS})
    .on_conflict_do_nothing(index_elements=["tenant_id", "run_id", "sequence"])
)
_AFTER: Final = (
    select(*(RunFeedEvent.sequence, RunFeedEvent.type, RunFeedEvent.time, RunFeedEvent.data, RunFeedEvent.traceparent))
    .where(RunFeedEvent.run_id == bindparam("run_id", type_=Uuid()), RunFeedEvent.sequence > bindparam("after"))
    .order_by(RunFeedEvent.sequence)
    .limit(bindparam("most"))
)
_ADVANCE: Final = (
    update(RunFeed)
    .where(RunFeed.run_id == bindparam("of_run", type_=Uuid()))
    .values(last_sequence=bindparam("last"))
    .execution_options(synchronize_session=False)
)


async def hold(
    session: AsyncSession, *, run_id: uuid.UUID, project_id: uuid.UUID, kept_for: timedelta
) -> tuple[int, bool] | None:
    """Lock the feed, begun if need be: its last sequence, and whether it is trimmed. None if the tenant is deleted."""
    await keep_tenant(session)
    values = {"held_run_id": run_id, "held_project_id": project_id, "kept_for": kept_for, "tenant": tenant_of(session)}
    found = (await session.execute(_HOLD, values)).one_or_none()
    return None if found is None else (found.last_sequence, found.trimmed)


async def add(session: AsyncSession, event: NewRunEvent) -> None:
    """Store the event, unless it is there already."""
    await session.execute(_ADD, {f"new_{column.name}": getattr(event, column.name) for column in _COLUMNS})


async def advance(session: AsyncSession, run_id: uuid.UUID, last: int) -> None:
    await session.execute(_ADVANCE, {"of_run": run_id, "last": last})


async def following(
    session: AsyncSession, run_id: uuid.UUID, project_id: uuid.UUID, *, after: int, limit: int
) -> list[StoredEvent]:
    """The events after a sequence, up to the first one that is missing."""
    rows = (await session.execute(_AFTER, {"run_id": run_id, "after": after, "most": limit})).all()
    return [
        StoredEvent(row.sequence, project_id, row.type, row.time, row.data, row.traceparent)
        for expected, row in enumerate(rows, start=after + 1)
        if row.sequence == expected
    ]


async def heads(session: AsyncSession, run_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Head]:
    """Heads of those feeds that have begun; of a trimmed one, a head that keeps nothing."""
    rows = await session.execute(
        select(RunFeed.run_id, RunFeed.last_sequence, RunFeed.trimmed).where(RunFeed.run_id.in_(run_ids))
    )
    return {run_id: _GONE if trimmed else Head(last, 1) for run_id, last, trimmed in rows}


async def events_between(
    session: AsyncSession, key: FeedKey, *, after: int, until: int, limit: int
) -> Sequence[StoredEvent]:
    """The first `limit` events with `after < sequence <= until`, up to the first one that is missing."""
    assert key.project_of_run is not None  # noqa: S101  # the key is that of a run
    found = await following(session, key.feed_id, key.project_of_run, after=after, limit=limit)
    return [event for event in found if event.sequence <= until]


async def trim(session: AsyncSession, run_id: uuid.UUID) -> None:
    """Remove the events; the feed stays for a while, so that none is appended any more."""
    options = {"synchronize_session": False}
    await session.execute(delete(RunFeedEvent).where(RunFeedEvent.run_id == run_id), execution_options=options)
    await session.execute(
        update(RunFeed).where(RunFeed.run_id == run_id).values(trimmed=True), execution_options=options
    )
