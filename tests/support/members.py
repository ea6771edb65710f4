"""Members of a tenant who never sign in: for tests of what is done to members, not by them."""

import uuid

import asyncpg

from infra.local.stack import Stack
from infra.postgres.roles import DATABASE

_USERS = (
    "INSERT INTO identity.users (email_verified, name) SELECT false, 'member' FROM generate_series(1, $1) RETURNING id"
)
_MEMBERSHIPS = """
    INSERT INTO identity.memberships (tenant_id, user_id, role, revision)
    SELECT $1, member, 'member', 1 FROM unnest($2::uuid[]) AS member
"""


async def new_members(stack: Stack, tenant_id: str, count: int) -> list[uuid.UUID]:
    """The ids of so many new members."""
    connection = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
    try:
        users = [row["id"] for row in await connection.fetch(_USERS, count)]
        await connection.execute(_MEMBERSHIPS, uuid.UUID(tenant_id), users)
    finally:
        await connection.close()
    return users
