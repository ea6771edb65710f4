"""Background work: feeds of runs are removed some time after their last event.

Guarantees: every feed is removed, however often the process dies, a bounded number of rows per transaction.
Fails by: retrying (`shared.work_queue`).
"""

from datetime import timedelta
from functools import partial
from typing import Final

from services.notifier.runs.models import RunFeed, RunFeedEvent
from shared.bounded_deletes import delete_some
from shared.tenancy import Database
from shared.work_queue import WorkQueue, keep_working

POLL_SECONDS: Final = 30.0
_FEEDS: Final = WorkQueue(RunFeed, due_at=RunFeed.due_at, claim=timedelta(seconds=60))


async def run(database: Database) -> None:
    """Work until cancelled."""
    await keep_working(partial(expire_one, database), name="feeds of runs", poll_seconds=POLL_SECONDS)


async def expire_one(database: Database) -> bool:
    """Remove the next feed that is due; returns whether there was one."""
    return await _FEEDS.work_on_next(database, partial(_remove, database))


async def _remove(database: Database, feed: RunFeed) -> None:
    while True:
        async with database.tenant(feed.tenant_id) as session:
            if not await delete_some(session, RunFeedEvent, RunFeedEvent.run_id == feed.run_id):
                await _FEEDS.finish(session, feed)
                return
            await _FEEDS.renew(session, feed)
