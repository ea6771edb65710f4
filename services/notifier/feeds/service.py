"""Feeds: the durable events of a project, numbered without gaps, which every replica can replay.

Guarantees: sequences of a feed have no gaps and become visible in order; an event is appended once, however often it
arrives; after a document's deletion only that it is purged is appended about it, so that it does not reappear.
Does not guarantee: that an event which had to be redelivered comes before newer ones about the same document. Each
carries its `revision`, by which a client that displays state can order them.
Forgets: the name and title of a deleted document, in every event about it; once runs that were given its text are gone
as well, that is told with one event.
Keeps: the newest `keep_events` of a project, none older than `keep_for`; trimming happens on append, so a feed in which
nothing happens keeps what it has.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from services.notifier.feeds import repository
from services.notifier.feeds.models import DOCUMENT_DELETED
from services.notifier.feeds.repository import FeedKey, NewEvent
from shared import outbox
from shared.events.notifier import FeedPurged
from shared.tenancy import after_commit, tenant_of

TRIM_EVERY = 64


@dataclass(frozen=True, slots=True)
class Retention:
    """How many events a project's feed keeps, and for how long."""

    keep_events: int
    keep_for: timedelta


@dataclass(frozen=True, slots=True)
class Announcement:
    """The feeds of a project and of its tenant have grown up to these sequences."""

    tenant_id: uuid.UUID
    project_id: uuid.UUID
    sequence: int
    tenant_sequence: int

    def feeds(self) -> tuple[tuple[FeedKey, int], tuple[FeedKey, int]]:
        return (
            (FeedKey(self.tenant_id, self.project_id), self.sequence),
            (FeedKey(self.tenant_id, self.tenant_id), self.tenant_sequence),
        )


Announce = Callable[[Announcement, NewEvent], None]


async def append(
    session: AsyncSession,
    event: NewEvent,
    *,
    retention: Retention,
    announce: Announce,
) -> None:
    """Append to the project's feed and the tenant's; announced once the transaction has committed."""
    sequence, tenant_sequence = await repository.next_sequences(session, event.project_id)
    if not await repository.add(session, event, sequence=sequence, tenant_sequence=tenant_sequence):
        await repository.give_back(session, event.project_id)
        return
    if event.type == DOCUMENT_DELETED:
        entries = await repository.redact(session, event.project_id, event.subject_id)
        await note_purge(session, event.project_id, event.subject_id, revision=event.revision, entries=entries)
    if sequence % TRIM_EVERY == 0:
        await _trim(session, event.project_id, last=sequence, retention=retention)
    announcement = Announcement(tenant_of(session), event.project_id, sequence, tenant_sequence)
    after_commit(session, lambda: announce(announcement, event))


async def note_purge(
    session: AsyncSession,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    *,
    revision: int,
    entries: int | None = None,
    index_purged: bool = False,
) -> None:
    """What is new of a deleted document's end, in whatever order; told once both are known. Indexing tells after the
    deletions of runs, which are earlier entries of the same stream.

    Args:
        revision: with which the document was deleted.
        entries: of how many events its deletion removed what people wrote.
    """
    purge = await repository.purge_of(session, document_id)
    if purge is None:
        return
    if purge.entries is None:
        purge.entries = entries
    purge.index_purged = purge.index_purged or index_purged
    if purge.entries is not None and purge.index_purged and not purge.told:
        purge.told = True
        event = FeedPurged(project_id=project_id, document_id=document_id, entries=purge.entries)
        outbox.publish(session, event, sequence=revision)
    await session.flush()


async def _trim(session: AsyncSession, project_id: uuid.UUID, *, last: int, retention: Retention) -> None:
    oldest_wanted = datetime.now(UTC) - retention.keep_for
    expired = await repository.newest_before(session, project_id, oldest_wanted)
    floor = max(last - retention.keep_events, expired)
    if floor > 0:
        await repository.drop_until(session, project_id, floor=floor)
