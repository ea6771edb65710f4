"""Background work after a tenant's deletion: its feeds, and the projection of its projects, are removed in pieces.

Guarantees: everything is removed, however often the process dies, a bounded number of rows per transaction. The
tombstone prevents appends meanwhile and later.
Fails by: retrying (`shared.work_queue`).
"""

from datetime import timedelta
from functools import partial
from typing import Final

from services.notifier.feeds.models import DeletedTenant, DocumentPurge, Feed, FeedEvent
from services.notifier.runs.models import RunFeed, RunFeedEvent
from shared.bounded_deletes import delete_some
from shared.project_access import KnownProject, ProjectAccess
from shared.telemetry import bind, get_logger
from shared.tenancy import Database
from shared.work_queue import WorkQueue, keep_working

POLL_SECONDS: Final = 1.0
_OF_RUNS: Final = (RunFeedEvent, RunFeed)
_ERASURES: Final = WorkQueue(DeletedTenant, due_at=DeletedTenant.due_at, claim=timedelta(seconds=60))
_log = get_logger(__name__)


async def run(database: Database) -> None:
    """Work until cancelled."""
    await keep_working(partial(erase_one, database), name="erasure", poll_seconds=POLL_SECONDS)


async def erase_one(database: Database) -> bool:
    """Erase the next deleted tenant that has rows left; returns whether there was one."""
    return await _ERASURES.work_on_next(database, partial(_erase, database))


async def _erase(database: Database, tenant: DeletedTenant) -> None:
    with bind(tenant_id=tenant.tenant_id):
        while not await _erase_some(database, tenant):
            pass
        _log.info("tenant_erased")


async def _erase_some(database: Database, tenant: DeletedTenant) -> bool:
    """Remove some rows of the tenant; with the last of them clears `due_at` and returns true."""
    async with database.tenant(tenant.tenant_id) as session:
        for table in (*_OF_RUNS, DocumentPurge, FeedEvent, Feed, ProjectAccess, KnownProject):
            if await delete_some(session, table):
                await _ERASURES.renew(session, tenant)
                return False
        (await _ERASURES.held(session, tenant)).due_at = None
        return True
