"""Background work after the end of a tenant or a membership: removes its rows and blobs, or its roles.

Guarantees: everything is removed, however often the process dies; each transaction changes a bounded number of rows, so
none runs into the statement timeout. Nothing new appears meanwhile: the tombstone in `tenant_usage` prevents it.
Fails by: retrying (`shared.work_queue`).
"""

from functools import partial
from typing import Final

from services.projects.blobs.store import BlobStore
from services.projects.projects import members
from services.projects.tenants import repository
from services.projects.tenants.models import Departure, TenantErasure
from services.projects.tenants.repository import DEPARTURES, ERASURES
from shared.telemetry import bind, get_logger
from shared.tenancy import Database
from shared.work_queue import keep_working

BATCH: Final = 200
_log = get_logger(__name__)


async def run(database: Database, blobs: BlobStore, *, every_seconds: float) -> None:
    """Work until cancelled."""

    async def next_one() -> bool:
        return await DEPARTURES.work_on_next(database, partial(_take_back_roles, database)) or (
            await ERASURES.work_on_next(database, partial(_erase, database, blobs))
        )

    await keep_working(next_one, name="erasure", poll_seconds=every_seconds)


async def _erase(database: Database, blobs: BlobStore, erasure: TenantErasure) -> None:
    tenant_id = erasure.tenant_id
    with bind(tenant_id=tenant_id):
        rows = files = 0
        while removed := await _erase_rows(database, erasure):
            rows += removed
        while removed := await blobs.remove_some_of(tenant_id, count=BATCH):
            files += removed
            async with database.tenant(tenant_id) as session:
                await ERASURES.renew(session, erasure)
        async with database.tenant(tenant_id) as session:
            await ERASURES.finish(session, erasure)
        _log.info("tenant_erased", rows=rows, files=files)


async def _erase_rows(database: Database, erasure: TenantErasure) -> int:
    async with database.tenant(erasure.tenant_id) as session:
        removed = await repository.erase_some(session, count=BATCH)
        await ERASURES.renew(session, erasure)
        return removed


async def _take_back_roles(database: Database, departure: Departure) -> None:
    user_id, number = departure.user_id, departure.membership_number
    with bind(tenant_id=departure.tenant_id, user_id=user_id):
        found = BATCH
        while found == BATCH:
            async with database.tenant(departure.tenant_id) as session:
                roles = await repository.roles_of(session, user_id=user_id, membership_number=number, count=BATCH)
                found = len(roles)
                for project, member in roles:
                    await session.delete(member)
                    members.announce(session, project, member, None, actor_id=None)
                await (DEPARTURES.renew if found == BATCH else DEPARTURES.finish)(session, departure)
