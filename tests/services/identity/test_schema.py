"""The database alone keeps tenants apart."""

import uuid
from typing import Any

import asyncpg
import pytest

from infra.local.stack import Stack
from infra.postgres.roles import DATABASE, Access
from shared.tenancy import SYSTEM_ACCESS
from tests.services.identity.callers import Browser
from tests.services.identity.conftest import Environment

OF_TENANTS = {"tenants", "memberships", "api_keys", "invitations"}
OF_THE_INSTALLATION = {"users", "linked_accounts", "sessions", "login_states", "signing_keys"}


async def query(stack: Stack, access: Access, statement: str, *arguments: object, tenant: object = "") -> list[Any]:
    url = stack.database_url("identity", access).replace("+asyncpg", "")
    connection = await asyncpg.connect(url, server_settings={"search_path": "identity"})
    try:
        async with connection.transaction():
            await connection.execute("SELECT set_config('app.tenant_id', $1, true)", str(tenant))
            return list(await connection.fetch(statement, *arguments))
    finally:
        await connection.close()


async def test_the_runtime_role_reaches_nothing_of_the_installation(stack: Stack, environment: Environment) -> None:
    for table in OF_THE_INSTALLATION:
        assert f"identity.{table}" in SYSTEM_ACCESS
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await query(stack, Access.RUNTIME, f"SELECT * FROM {table}")  # noqa: S608  # names of our own tables


async def test_without_a_tenant_nothing_is_seen(stack: Stack, owner: Browser) -> None:
    for table in OF_TENANTS:
        statement = f"SELECT tenant_id FROM {table}"  # noqa: S608  # names of our own tables
        assert await query(stack, Access.RUNTIME, statement) == []
    assert await query(stack, Access.RUNTIME, "SELECT id, name, email FROM users") == []


async def test_the_database_shows_a_tenant_only_its_own_rows(stack: Stack, owner: Browser, outsider: Browser) -> None:
    await outsider.post("/v1/api-keys", json={"name": "x", "scopes": ["search"]})
    await outsider.post("/v1/invitations", json={"email": "x@example.test"})
    tenant, user = uuid.UUID((await owner.me())["tenant"]["id"]), uuid.UUID((await owner.me())["user"]["id"])
    for table in OF_TENANTS:
        statement = f"SELECT tenant_id FROM {table}"  # noqa: S608  # names of our own tables
        rows = await query(stack, Access.RUNTIME, statement, tenant=tenant)
        assert {row["tenant_id"] for row in rows} <= {tenant}
    named = await query(stack, Access.RUNTIME, "SELECT id FROM users", tenant=tenant)
    assert [row["id"] for row in named] == [user]


async def test_names_of_former_members_are_not_shown(stack: Stack, owner: Browser) -> None:
    me = await owner.me()
    tenant = uuid.UUID(me["tenant"]["id"])
    connection = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
    await connection.execute("UPDATE identity.memberships SET role = NULL WHERE tenant_id = $1", tenant)
    await connection.close()
    assert await query(stack, Access.RUNTIME, "SELECT id FROM users", tenant=tenant) == []


async def test_the_database_refuses_rows_of_another_tenant(stack: Stack, owner: Browser, outsider: Browser) -> None:
    mine, other = [uuid.UUID((await browser.me())["tenant"]["id"]) for browser in (owner, outsider)]
    user = uuid.UUID((await outsider.me())["user"]["id"])
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await query(
            stack,
            Access.RUNTIME,
            "INSERT INTO memberships (tenant_id, user_id, role, revision) VALUES ($1, $2, 'owner', 1)",
            other,
            uuid.uuid4(),
            tenant=mine,
        )
    changed = await query(
        stack,
        Access.RUNTIME,
        "UPDATE memberships SET role = 'member' WHERE user_id = $1 RETURNING user_id",
        user,
        tenant=mine,
    )
    assert changed == []


async def test_the_system_role_changes_only_what_it_must(stack: Stack, owner: Browser) -> None:
    for statement in (
        "UPDATE memberships SET role = 'owner'",
        "UPDATE tenants SET name = 'x'",
        "UPDATE api_keys SET scopes = '{}'",
        "INSERT INTO memberships (tenant_id, user_id, revision) VALUES (uuidv7(), uuidv7(), 1)",
        "DELETE FROM users",
        "UPDATE signing_keys SET private_jwk = ''",
        "UPDATE login_states SET nonce = ''",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await query(stack, Access.SYSTEM, statement)
