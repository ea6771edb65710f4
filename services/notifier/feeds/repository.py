"""SQL of feeds. Every statement runs in a transaction bound to one tenant."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ARRAY, Text, Uuid, bindparam, cast, column, delete, exists, func, inspect, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import ReturningInsert

from services.notifier.feeds.models import (
    DOCUMENT_DELETED,
    DOCUMENT_PURGED,
    DeletedTenant,
    DocumentPurge,
    Feed,
    FeedEvent,
)
from shared.tenancy import inserting, tenant_of


class FeedKey(NamedTuple):
    """Which feed: `feed_id` is a project, the tenant itself for the feed of all its projects, or a run of the project
    that is then given as well."""

    tenant_id: uuid.UUID
    feed_id: uuid.UUID
    project_of_run: uuid.UUID | None = None

    @property
    def is_tenant_wide(self) -> bool:
        return self.feed_id == self.tenant_id

    @property
    def is_run(self) -> bool:
        return self.project_of_run is not None

    @property
    def project_id(self) -> uuid.UUID | None:
        """The only project that the feed is about, if there is one."""
        if self.project_of_run is not None:
            return self.project_of_run
        return None if self.is_tenant_wide else self.feed_id


class Head(NamedTuple):
    """The last sequence of a feed, and the first one that is kept."""

    last: int
    first_kept: int


_WRITTEN_BY_PEOPLE = ["name", "title", "reason"]
EMPTY = Head(last=0, first_kept=1)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A durable event about to be appended; see `FeedEvent`."""

    project_id: uuid.UUID
    event_id: uuid.UUID
    type: str
    time: datetime
    subject_id: uuid.UUID
    revision: int
    data: dict[str, Any]
    traceparent: str | None

    def stored(self, sequence: int) -> "StoredEvent":
        """The event as the feed shows it in which it has this number."""
        return StoredEvent(sequence, self.project_id, self.type, self.time, self.data, self.traceparent)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A durable event as a feed shows it: `sequence` is its number in the feed that was read."""

    sequence: int
    project_id: uuid.UUID
    type: str
    time: datetime
    data: dict[str, Any]
    traceparent: str | None


def _next_sequences() -> ReturningInsert[*tuple[Any, ...]]:
    feeds = func.unnest(bindparam("feeds", type_=ARRAY(Uuid()))).table_valued(column("feed_id", Uuid()))
    statement = inserting(Feed).from_select(["feed_id", "last_sequence"], select(feeds.render_derived().c.feed_id, 1))
    feed = statement.table.c
    return statement.on_conflict_do_update(
        index_elements=["tenant_id", "feed_id"], set_={"last_sequence": feed.last_sequence + 1}
    ).returning(feed.feed_id, feed.last_sequence)


_NEXT_SEQUENCES: Final = _next_sequences()


async def next_sequences(session: AsyncSession, project_id: uuid.UUID) -> tuple[int, int]:
    """Increment both feeds and lock them until the transaction ends; returns (project's, tenant's).

    The lock makes sequences gapless and visible in order. The tenant's row is taken first: transactions that append to
    several projects of a tenant wait for each other there instead of deadlocking.
    """
    tenant_id = tenant_of(session)
    rows = await session.execute(_NEXT_SEQUENCES, {"feeds": [tenant_id, project_id]})
    sequences = {row.feed_id: row.last_sequence for row in rows}
    return sequences[project_id], sequences[tenant_id]


async def give_back(session: AsyncSession, project_id: uuid.UUID) -> None:
    """Undo `next_sequences` of this transaction, which still locks both rows. A feed that it began is removed."""
    feeds = Feed.feed_id.in_((project_id, tenant_of(session)))
    for statement in (
        update(Feed).where(feeds).values(last_sequence=Feed.last_sequence - 1),
        delete(Feed).where(feeds, Feed.last_sequence == 0),
    ):
        await session.execute(statement, execution_options={"synchronize_session": False})


# What an event is inserted with; `tenant_id` and `appended_at` are Postgres's.
_GIVEN: Final = tuple(column for column in inspect(FeedEvent).columns if column.server_default is None)


def _add() -> ReturningInsert[*tuple[Any, ...]]:
    given = {column.name: bindparam(f"new_{column.name}", type_=column.type) for column in _GIVEN}
    tenant_id = bindparam("tenant", type_=Uuid())
    deletion = (
        (FeedEvent.subject_id == given["subject_id"])
        & (FeedEvent.type == DOCUMENT_DELETED)
        & (given["type"] != DOCUMENT_PURGED)
    )
    pointless = or_(
        exists(FeedEvent.event_id).where(
            FeedEvent.tenant_id == tenant_id,
            or_(FeedEvent.event_id == given["event_id"], (FeedEvent.project_id == given["project_id"]) & deletion),
        ),
        exists(DeletedTenant.tenant_id).where(DeletedTenant.tenant_id == tenant_id),
    )
    values = select(*given.values()).where(~pointless)
    statement = inserting(FeedEvent).from_select(list(given), values, include_defaults=False)
    return statement.returning(statement.table.c.sequence)


_ADD: Final = _add()


async def add(session: AsyncSession, event: NewEvent, *, sequence: int, tenant_sequence: int) -> bool:
    """Store the event. False, with nothing stored, when the feed already holds it or the deletion of its subject, or
    when the tenant is deleted."""
    row = {
        "project_id": event.project_id,
        "sequence": sequence,
        "tenant_sequence": tenant_sequence,
        "event_id": event.event_id,
        "type": event.type,
        "time": event.time,
        "subject_id": event.subject_id,
        "revision": event.revision,
        "data": event.data,
        "traceparent": event.traceparent,
    }
    values = {f"new_{name}": value for name, value in row.items()}
    return await session.scalar(_ADD, {"tenant": tenant_of(session), **values}) is not None


async def redact(session: AsyncSession, project_id: uuid.UUID, subject_id: uuid.UUID) -> int:
    """Remove what people wrote from the events about a subject, and return from how many; that they happened, and when,
    stays."""
    written = cast(_WRITTEN_BY_PEOPLE, ARRAY(Text))
    redacted = await session.scalars(
        update(FeedEvent)
        .where(FeedEvent.project_id == project_id, FeedEvent.subject_id == subject_id, FeedEvent.data.op("?|")(written))
        .values(data=FeedEvent.data.op("-", return_type=JSONB())(written))
        .returning(FeedEvent.sequence),
        execution_options={"synchronize_session": False},
    )
    return len(redacted.all())


async def purge_of(session: AsyncSession, document_id: uuid.UUID) -> DocumentPurge | None:
    """The purge of a document, begun if need be, locked; None if the tenant is deleted."""
    await keep_tenant(session)
    if await session.scalar(select(DeletedTenant.tenant_id)) is not None:
        return None
    await session.execute(insert(DocumentPurge).values(document_id=document_id).on_conflict_do_nothing())
    statement = select(DocumentPurge).where(DocumentPurge.document_id == document_id).with_for_update()
    return await session.scalar(statement.execution_options(populate_existing=True))


async def heads(session: AsyncSession, feed_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Head]:
    """Heads of those of the tenant's feeds that have events."""
    rows = await session.execute(
        select(Feed.feed_id, Feed.last_sequence, Feed.first_kept_sequence).where(Feed.feed_id.in_(feed_ids))
    )
    return {feed_id: Head(last, first_kept) for feed_id, last, first_kept in rows}


async def events_between(
    session: AsyncSession,
    key: FeedKey,
    *,
    after: int,
    until: int,
    limit: int,
    visible: Collection[uuid.UUID] | None = None,
) -> Sequence[StoredEvent]:
    """The first `limit` events with `after < sequence <= until`, of the visible projects when some are named."""
    sequence = FeedEvent.tenant_sequence if key.is_tenant_wide else FeedEvent.sequence
    statement = select(
        sequence, FeedEvent.project_id, FeedEvent.type, FeedEvent.time, FeedEvent.data, FeedEvent.traceparent
    ).where(sequence > after, sequence <= until)
    if not key.is_tenant_wide:
        statement = statement.where(FeedEvent.project_id == key.feed_id)
    if visible is not None:
        statement = statement.where(FeedEvent.project_id.in_(visible))
    rows = await session.execute(statement.order_by(sequence).limit(limit))
    return [StoredEvent(*row) for row in rows]


async def drop_until(session: AsyncSession, project_id: uuid.UUID, *, floor: int) -> None:
    """Remove a project's events up to `floor`. The tenant's feed is then complete only after the newest of them."""
    dropped = FeedEvent.project_id == project_id, FeedEvent.sequence <= floor
    newest = await session.scalar(select(func.max(FeedEvent.tenant_sequence)).where(*dropped))
    if newest is None:
        return
    await session.execute(delete(FeedEvent).where(*dropped), execution_options={"synchronize_session": False})
    for feed_id, first_kept in ((project_id, floor + 1), (tenant_of(session), newest + 1)):
        await session.execute(
            update(Feed)
            .where(Feed.feed_id == feed_id, Feed.first_kept_sequence < first_kept)
            .values(first_kept_sequence=first_kept),
            execution_options={"synchronize_session": False},
        )


async def newest_before(session: AsyncSession, project_id: uuid.UUID, moment: datetime) -> int:
    """Sequence of the newest event of a project that was appended before `moment`; 0 when there is none."""
    return (
        await session.scalar(
            select(func.max(FeedEvent.sequence)).where(
                FeedEvent.project_id == project_id, FeedEvent.appended_at < moment
            )
        )
        or 0
    )


_LOCK, _LOCK_SHARED = (
    select(take(func.hashtextextended(bindparam("name", type_=Text()), 0))).execution_options(
        tenant_guard="takes a lock and reads no row"
    )
    for take in (func.pg_advisory_xact_lock, func.pg_advisory_xact_lock_shared)
)


async def keep_tenant(session: AsyncSession) -> None:
    """Keep the tenant's tombstone from being written until the transaction ends."""
    await session.execute(_LOCK_SHARED, {"name": f"notifier:tenant:{tenant_of(session)}"})


async def tombstone_tenant(session: AsyncSession) -> None:
    """Write its tombstone, once all appends under way have committed."""
    await session.execute(_LOCK, {"name": f"notifier:tenant:{tenant_of(session)}"})
    held = insert(Feed).values(feed_id=tenant_of(session), last_sequence=0)
    await session.execute(
        held.on_conflict_do_update(index_elements=["tenant_id", "feed_id"], set_={"last_sequence": Feed.last_sequence})
    )
    tombstone = insert(DeletedTenant).values(due_at=func.now())
    await session.execute(tombstone.on_conflict_do_nothing(index_elements=["tenant_id"]))
