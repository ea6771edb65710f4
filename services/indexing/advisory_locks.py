"""Locks of Postgres that end with the transaction, by names; a name that follows from content contains the tenant."""

from typing import Final

from sqlalchemy import Text, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

_LOCK: Final = {
    shared: select(take(func.hashtextextended(bindparam("name", type_=Text()), 0))).execution_options(
        tenant_guard="takes a lock and reads no row"
    )
    for shared, take in ((False, func.pg_advisory_xact_lock), (True, func.pg_advisory_xact_lock_shared))
}


async def lock(session: AsyncSession, name: str, *, shared: bool = False) -> None:
    """Wait for the lock and hold it until the transaction ends; those who share it do not wait for each other."""
    await session.execute(_LOCK[shared], {"name": name})
