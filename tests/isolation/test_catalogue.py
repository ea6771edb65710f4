"""What Postgres itself says about every table: isolation is forced, and nothing stands beside it."""

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from infra.local.stack import Stack
from infra.postgres.roles import DATABASE
from shared.migrations import SERVICES_WITH_SCHEMA
from shared.tenancy import SYSTEM_ACCESS

# Unique without a tenant, and why no caller can use it to ask whether another tenant's row exists.
UNIQUE_WITHOUT_TENANT = {
    "uq_outbox_position": "the value is always generated, none can be chosen",
    "uq_dead_letters_stream_entry_id_handler": "no tenant reads or writes the table",
}

# Policies beside the two that every table may have, and why each is no wider than the tenant.
NARROW_POLICIES = {
    "identity.users: members_of_the_tenant": "reads users who have a membership that the bound tenant sees",
}


@pytest.fixture(scope="session")
async def catalogue(
    stack: Stack, migrated: Callable[[str], Awaitable[None]]
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    for service in SERVICES_WITH_SCHEMA:
        await migrated(service)
    connection = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
    yield connection
    await connection.close()


async def tables(catalogue: "asyncpg.Connection[asyncpg.Record]") -> list[asyncpg.Record]:
    return await catalogue.fetch(
        """
        SELECT n.nspname AS schema, c.relname AS name, n.nspname || '.' || c.relname AS full_name,
               c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced, o.rolname AS owner,
               EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'
                       AND a.attnotnull AND NOT a.attisdropped) AS has_tenant,
               has_table_privilege(n.nspname, c.oid, 'SELECT, INSERT, UPDATE, DELETE') AS runtime_may,
               has_table_privilege(n.nspname || '_system', c.oid, 'SELECT, INSERT, UPDATE, DELETE') AS system_may
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner
        WHERE n.nspname = ANY($1) AND c.relkind IN ('r', 'p') AND c.relname <> 'alembic_version'
        """,
        list(SERVICES_WITH_SCHEMA),
    )


async def policies(catalogue: "asyncpg.Connection[asyncpg.Record]") -> list[asyncpg.Record]:
    return await catalogue.fetch(
        """
        SELECT p.schemaname || '.' || p.tablename AS full_name, p.schemaname AS schema, p.policyname AS name,
               p.roles::text[] AS roles, p.qual, p.with_check, p.permissive
        FROM pg_policies p WHERE p.schemaname = ANY($1)
        """,
        list(SERVICES_WITH_SCHEMA),
    )


async def test_every_table_forces_row_level_security(catalogue: "asyncpg.Connection[asyncpg.Record]") -> None:
    found = await tables(catalogue)
    assert len(found) > 20
    assert [table["full_name"] for table in found if not (table["enabled"] and table["forced"])] == []


async def test_every_table_the_runtime_role_may_use_is_held_to_the_bound_tenant(
    catalogue: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    of_runtime = {
        (policy["full_name"], expression)
        for policy in await policies(catalogue)
        for expression in ("qual", "with_check")
        if policy["roles"] == [policy["schema"]]
        and "tenant_id = ( SELECT (NULLIF(current_setting('app.tenant_id'" in (policy[expression] or "")
    }
    for table in await tables(catalogue):
        if table["runtime_may"]:
            assert table["has_tenant"], f"{table['full_name']} has no tenant_id"
            assert (table["full_name"], "qual") in of_runtime, table["full_name"]
            assert (table["full_name"], "with_check") in of_runtime, table["full_name"]


async def test_tables_open_across_tenants_are_exactly_the_listed_ones(
    catalogue: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    granted = {table["full_name"] for table in await tables(catalogue) if table["system_may"]}
    opened = {policy["full_name"] for policy in await policies(catalogue) if policy["name"] == "system_access"}
    assert granted == opened == set(SYSTEM_ACCESS)
    assert all(len(reason) > 20 for reason in SYSTEM_ACCESS.values())


async def test_no_other_policy_exists(catalogue: "asyncpg.Connection[asyncpg.Record]") -> None:
    """A second permissive policy widens the first: each one is known here, with the role it is for."""
    known = {"tenant_isolation": "", "system_access": "_system"}
    for policy in await policies(catalogue):
        if policy["name"] in known:
            assert policy["roles"] == [policy["schema"] + known[policy["name"]]], policy["full_name"]
        else:
            assert f"{policy['full_name']}: {policy['name']}" in NARROW_POLICIES, policy["full_name"]


async def test_runtime_roles_own_nothing_and_bypass_nothing(catalogue: "asyncpg.Connection[asyncpg.Record]") -> None:
    for table in await tables(catalogue):
        assert table["owner"] == f"{table['schema']}_owner"
    roles = await catalogue.fetch(
        "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = ANY($1)",
        [role for service in SERVICES_WITH_SCHEMA for role in (service, f"{service}_system", f"{service}_owner")],
    )
    assert len(roles) == 3 * len(SERVICES_WITH_SCHEMA)
    for role in roles:
        assert not any((role["rolsuper"], role["rolbypassrls"], role["rolcreaterole"], role["rolcreatedb"])), role


async def test_no_role_reaches_the_schema_of_another_service(catalogue: "asyncpg.Connection[asyncpg.Record]") -> None:
    for service in SERVICES_WITH_SCHEMA:
        for other in SERVICES_WITH_SCHEMA:
            for role in (service, f"{service}_system", f"{service}_owner"):
                may = await catalogue.fetchval("SELECT has_schema_privilege($1, $2, 'USAGE')", role, other)
                assert may == (service == other), (role, other)


async def test_keys_are_no_existence_oracles(catalogue: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Foreign keys and unique indexes contain the tenant: else a conflict tells that a foreign row exists."""
    keys = await catalogue.fetch(
        """
        WITH keys AS (
            SELECT conname AS name, conrelid AS relation, conkey AS columns FROM pg_constraint WHERE contype = 'f'
            UNION ALL
            SELECT c.relname, x.indrelid, x.indkey::smallint[] FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
            WHERE x.indisunique AND NOT x.indisprimary
        )
        SELECT k.name, n.nspname || '.' || c.relname AS full_name,
               'tenant_id' = ANY (SELECT a.attname FROM pg_attribute a
                                  WHERE a.attrelid = k.relation AND a.attnum = ANY (k.columns)) AS with_tenant
        FROM keys k JOIN pg_class c ON c.oid = k.relation JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY($1)
        """,
        list(SERVICES_WITH_SCHEMA),
    )
    assert len(keys) > 10
    runtime = {table["full_name"] for table in await tables(catalogue) if table["runtime_may"]}
    oracles = [
        key["name"]
        for key in keys
        if key["full_name"] in runtime and not key["with_tenant"] and key["name"] not in UNIQUE_WITHOUT_TENANT
    ]
    assert oracles == []


async def test_no_view_or_function_runs_with_its_owners_rights(
    catalogue: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    views = await catalogue.fetch(
        """
        SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY($1) AND c.relkind IN ('v', 'm')
          AND NOT coalesce('security_invoker=true' = ANY (c.reloptions), false)
        """,
        list(SERVICES_WITH_SCHEMA),
    )
    functions = await catalogue.fetch(
        "SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        "WHERE n.nspname = ANY($1) AND p.prosecdef",
        list(SERVICES_WITH_SCHEMA),
    )
    assert (list(views), list(functions)) == ([], [])


async def test_the_table_of_migrations_is_closed(catalogue: "asyncpg.Connection[asyncpg.Record]") -> None:
    """It holds a revision, no tenant's data; nobody but the owner has anything to do with it."""
    for service in SERVICES_WITH_SCHEMA:
        table = f"{service}.alembic_version"
        assert await catalogue.fetchval("SELECT relrowsecurity FROM pg_class WHERE oid = $1::regclass", table), table
        for role in (service, f"{service}_system"):
            may = await catalogue.fetchval(
                "SELECT has_table_privilege($1, $2, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')", role, table
            )
            assert not may, (role, table)
