"""Background work after the end of a tenant or a membership: removes its rows and blobs, or its roles.

Guarantees: everything is removed, however often the process dies; each transaction changes a bounded number of rows, so
none runs into the statement timeout. Work is claimed for a minute; any process can claim what is left then.
Nothing new appears meanwhile: the tombstone in `tenant_usage` prevents it.
Fails by: retrying.
"""

import asyncio
import uuid
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from services.projects.blobs import BlobStore, StorageFull, StorageUnavailable
from services.projects.projects import members
from services.projects.tenants import repository
from shared.telemetry import bind, get_logger
from shared.tenancy import Database

BATCH: Final = 200
_log = get_logger(__name__)


async def run(database: Database, blobs: BlobStore, *, every_seconds: float) -> None:
    """Work until cancelled."""
    while True:
        try:
            while await take_back_roles(database) or await erase_one(database, blobs):
                pass
        except (SQLAlchemyError, OSError, StorageFull, StorageUnavailable) as error:
            _log.warning("erasure_paused", reason=str(error)[:200], exc_info=error)
        await asyncio.sleep(every_seconds)


async def erase_one(database: Database, blobs: BlobStore) -> bool:
    """Erase the next deleted tenant; returns whether there was one."""
    async with database.system() as session:
        tenant_id = await repository.claim_erasure(session)
    if tenant_id is None:
        return False
    with bind(tenant_id=tenant_id):
        rows = await _erase_rows(database, tenant_id)
        files = 0
        while removed := await blobs.remove_some_of(tenant_id, count=BATCH):
            files += removed
        async with database.tenant(tenant_id) as session:
            await repository.end_erasure(session)
        _log.info("tenant_erased", rows=rows, files=files)
    return True


async def _erase_rows(database: Database, tenant_id: uuid.UUID) -> int:
    rows = 0
    while True:
        async with database.tenant(tenant_id) as session:
            removed = await repository.erase_some(session, count=BATCH)
        if not removed:
            return rows
        rows += removed


async def take_back_roles(database: Database) -> bool:
    """Remove the roles of the next user who left; returns whether there was one."""
    async with database.system() as session:
        departure = await repository.claim_departure(session)
    if departure is None:
        return False
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
                if found < BATCH:
                    await repository.end_departure(session, user_id=user_id, membership_number=number)
    return True
