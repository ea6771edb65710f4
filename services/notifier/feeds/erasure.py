"""Background work after a tenant's deletion: its feeds, and the projection of its projects, are removed in pieces.

Guarantees: everything is removed, however often the process dies, a bounded number of rows per transaction. The
tombstone prevents appends meanwhile and later.
Fails by: retrying.
"""

import asyncio
import uuid
from datetime import timedelta
from typing import Final

from sqlalchemy import func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from services.notifier.feeds.models import DeletedTenant, Feed, FeedEvent
from shared.bounded_deletes import delete_some
from shared.project_access import KnownProject, ProjectAccess
from shared.telemetry import bind, get_logger
from shared.tenancy import Database

POLL_SECONDS: Final = 1.0
# The claim of a process that dies expires after this long.
_CLAIM: Final = timedelta(seconds=60)
_log = get_logger(__name__)


async def run(database: Database) -> None:
    """Work until cancelled."""
    while True:
        try:
            while await erase_one(database):
                pass
        except (SQLAlchemyError, OSError) as error:
            _log.warning("erasure_paused", reason=str(error)[:200])
        await asyncio.sleep(POLL_SECONDS)


async def erase_one(database: Database) -> bool:
    """Erase the next deleted tenant; returns whether there was one."""
    async with database.system() as session:
        tenant_id = await _claim(session)
    if tenant_id is None:
        return False
    with bind(tenant_id=tenant_id):
        while not await _erase_some(database, tenant_id):
            pass
        _log.info("tenant_erased")
    return True


async def _claim(session: AsyncSession) -> uuid.UUID | None:
    """Claim, for a limited time, the next deleted tenant that has rows left. System access only."""
    due = (
        select(DeletedTenant.tenant_id)
        .where(DeletedTenant.due_at <= func.now())
        .order_by(DeletedTenant.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    tenant_id: uuid.UUID | None = await session.scalar(
        update(DeletedTenant)
        .where(DeletedTenant.tenant_id == due.scalar_subquery())
        .values(due_at=func.now() + _CLAIM)
        .returning(DeletedTenant.tenant_id)
        .execution_options(synchronize_session=False)
    )
    return tenant_id


async def _erase_some(database: Database, tenant_id: uuid.UUID) -> bool:
    """Remove some rows of the tenant; with the last of them clears `due_at` and returns true."""
    async with database.tenant(tenant_id) as session:
        for table in (FeedEvent, Feed, ProjectAccess, KnownProject):
            if await delete_some(session, table):
                return False
        await session.execute(update(DeletedTenant).values(due_at=None).execution_options(synchronize_session=False))
        return True
