"""Reading feeds of every kind by their keys: of projects, of tenants, of runs."""

import uuid
from collections.abc import Collection, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from services.notifier.feeds import repository as feeds
from services.notifier.feeds.repository import EMPTY, FeedKey, Head, StoredEvent
from services.notifier.runs import repository as runs


async def heads(session: AsyncSession, keys: Collection[FeedKey]) -> dict[FeedKey, Head]:
    """Heads of those of the tenant's feeds that have begun."""
    of_runs = {key.feed_id: key for key in keys if key.is_run}
    others = {key.feed_id: key for key in keys if not key.is_run}
    found: dict[FeedKey, Head] = {}
    if others:
        found |= {others[feed_id]: head for feed_id, head in (await feeds.heads(session, others.keys())).items()}
    if of_runs:
        found |= {of_runs[run_id]: head for run_id, head in (await runs.heads(session, of_runs.keys())).items()}
    return found


async def head(session: AsyncSession, key: FeedKey) -> Head:
    """The head of one feed; of one that has not begun, `EMPTY`."""
    return (await heads(session, [key])).get(key, EMPTY)


async def events_between(
    session: AsyncSession,
    key: FeedKey,
    *,
    after: int,
    until: int,
    limit: int,
    visible: Collection[uuid.UUID] | None = None,
) -> Sequence[StoredEvent]:
    """The first `limit` events with `after < sequence <= until`; of a tenant's feed only those of visible projects."""
    if key.is_run:
        return await runs.events_between(session, key, after=after, until=until, limit=limit)
    return await feeds.events_between(session, key, after=after, until=until, limit=limit, visible=visible)
