"""What only a test may do: look into and tamper with the database as its administrator."""

import asyncpg

from infra.local.stack import Stack
from infra.postgres.roles import DATABASE


async def as_admin(stack: Stack, statement: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
    try:
        return await connection.fetch(statement, *arguments)
    finally:
        await connection.close()
