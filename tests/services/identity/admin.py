"""What only a test may do: look into and tamper with the database as its administrator."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from infra.local.stack import Stack
from infra.postgres.roles import DATABASE
from tests.support.polling import eventually

_WAITING = "SELECT pid FROM pg_stat_activity WHERE usename = 'identity' AND wait_event_type = 'Lock'"


@asynccontextmanager
async def holding_tenant(stack: Stack, tenant_id: str, *, until_waiting: int) -> AsyncIterator[None]:
    """Hold a tenant's row during the block, and after it until so many transactions of identity wait for a lock: what
    they do next, they do at once."""
    connection = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
    try:
        async with connection.transaction():
            await connection.execute(
                "SELECT 1 FROM identity.tenants WHERE tenant_id = $1 FOR UPDATE", uuid.UUID(tenant_id)
            )
            yield

            async def all_wait() -> bool:
                # On another connection: a transaction sees one snapshot of what is going on.
                return len(await as_admin(stack, _WAITING)) == until_waiting

            await eventually(all_wait, within=4)
    finally:
        await connection.close()


async def as_admin(stack: Stack, statement: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
    try:
        return await connection.fetch(statement, *arguments)
    finally:
        await connection.close()
