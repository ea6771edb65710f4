"""Database roles: made once or again, and able to do no more than they should."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

from infra.local.environment import role_passwords
from infra.local.home import Home
from infra.local.stack import Stack
from infra.postgres.bootstrap import bootstrap
from infra.postgres.roles import LIMITS, Access, all_roles, role_name
from shared.topology import SERVICES
from tests.support.polling import eventually


@pytest.fixture(scope="module")
async def cluster(module_folder: Path) -> AsyncIterator[Stack]:
    async with Stack(Home(module_folder), durable=False, with_oidc=False) as stack:
        yield stack


async def connect(cluster: Stack, role: str, database: str = "quarry") -> asyncpg.Connection:
    dsn = cluster.postgres.dsn(role, role_passwords(cluster.home)[role], database)
    return await asyncpg.connect(dsn)


async def test_no_role_may_step_over_row_security(cluster: Stack) -> None:
    admin = await asyncpg.connect(cluster.postgres.admin_dsn("quarry"))
    rows = await admin.fetch("SELECT * FROM pg_roles WHERE rolname = ANY($1)", all_roles())
    assert sorted(row["rolname"] for row in rows) == sorted(all_roles())
    assert len(rows) == len(SERVICES) * 3
    powers = ("rolsuper", "rolbypassrls", "rolcreaterole", "rolcreatedb", "rolreplication", "rolinherit")
    for row in rows:
        assert not any(row[power] for power in powers), row
        assert row["rolcanlogin"]
    memberships = "SELECT count(*) FROM pg_auth_members JOIN pg_roles r ON r.oid = member WHERE r.rolname = ANY($1)"
    assert await admin.fetchval(memberships, all_roles()) == 0
    owners = await admin.fetch(
        "SELECT nspname, rolname FROM pg_namespace JOIN pg_roles r ON r.oid = nspowner WHERE nspname = ANY($1)",
        SERVICES,
    )
    assert {(row["nspname"], row["rolname"]) for row in owners} == {(name, f"{name}_owner") for name in SERVICES}
    await admin.close()


@pytest.mark.parametrize("access", list(Access))
async def test_a_role_is_bound_to_its_own_schema_and_limits(cluster: Stack, access: Access) -> None:
    connection = await connect(cluster, role_name("projects", access))
    assert await connection.fetchval("SELECT current_schema()") == "projects"
    for setting, value in LIMITS[access].items():
        assert await connection.fetchval("SELECT current_setting($1)", setting) == value
    for service in SERVICES:
        usage = await connection.fetchval("SELECT has_schema_privilege($1, 'USAGE')", service)
        create = await connection.fetchval("SELECT has_schema_privilege($1, 'CREATE')", service)
        assert usage == (service == "projects")
        assert create == (service == "projects" and access is Access.OWNER)
    for statement in (
        "CREATE TABLE public.x ()",
        "CREATE TEMP TABLE x ()",
        "SET ROLE postgres",
        "SET ROLE identity_owner",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    if access is not Access.OWNER:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SET ROLE projects_owner")
    await connection.close()


async def test_a_client_that_stands_still_before_it_runs_a_statement_holds_no_lock_for_ever(cluster: Stack) -> None:
    """A frozen process may have prepared a statement and not run it: to Postgres that is no idle transaction."""
    still, other = await connect(cluster, "projects"), await connect(cluster, "projects")
    await still.execute("SET transaction_timeout = '500ms'")
    await still.execute("BEGIN; SELECT pg_advisory_xact_lock(7)")
    await still.prepare("SELECT 1")
    assert not await other.fetchval("SELECT pg_try_advisory_lock(7)")

    async def free() -> bool:
        return bool(await other.fetchval("SELECT pg_try_advisory_lock(7)"))

    await eventually(free, within=10)
    await other.close()


async def test_tables_and_functions_of_the_owner_are_nobody_elses_until_granted(cluster: Stack) -> None:
    owner = await connect(cluster, "projects_owner")
    await owner.execute("CREATE TABLE notes (text text)")
    await owner.execute("CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    for role in ("projects", "projects_system", "identity"):
        other = await connect(cluster, role)
        for statement in ("SELECT * FROM projects.notes", "SELECT projects.one()", "DROP TABLE projects.notes"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await other.execute(statement)
        await other.close()
    await owner.execute("GRANT SELECT ON notes TO projects")
    runtime = await connect(cluster, "projects")
    assert await runtime.fetch("SELECT * FROM notes") == []
    await runtime.close()
    await owner.close()


async def test_a_role_of_nobody_may_not_connect(cluster: Stack) -> None:
    admin = await asyncpg.connect(cluster.postgres.admin_dsn())
    await admin.execute("CREATE ROLE stranger LOGIN PASSWORD 'x'")
    await admin.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for database"):
        await asyncpg.connect(cluster.postgres.dsn("stranger", "x", "quarry"))


async def test_running_again_keeps_data_and_repairs_roles(cluster: Stack) -> None:
    owner = await connect(cluster, "projects_owner")
    await owner.execute(
        "CREATE TABLE kept (text text); INSERT INTO kept VALUES ('kept'); GRANT SELECT ON kept TO projects"
    )
    await owner.close()
    admin = await asyncpg.connect(cluster.postgres.admin_dsn("quarry"))
    await admin.execute(
        "ALTER ROLE projects SUPERUSER BYPASSRLS PASSWORD 'other'; GRANT projects_owner TO projects; "
        "GRANT ALL ON DATABASE quarry TO PUBLIC; GRANT ALL ON SCHEMA projects TO PUBLIC; "
        "ALTER SCHEMA projects OWNER TO postgres"
    )
    await cluster.bootstrap()
    await cluster.bootstrap()
    runtime = await connect(cluster, "projects")
    assert await runtime.fetchval("SELECT text FROM kept") == "kept"
    assert not await runtime.fetchval("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await runtime.execute("SET ROLE projects_owner")
    assert not await admin.fetchval("SELECT has_schema_privilege('identity', 'projects', 'USAGE')")
    await runtime.close()
    await admin.close()


async def test_another_database_gets_the_same_schemas(cluster: Stack) -> None:
    await cluster.bootstrap("second one")
    connection = await connect(cluster, "notifier", "second one")
    assert await connection.fetchval("SELECT current_schema()") == "notifier"
    await connection.close()
    assert "/second%20one?" in cluster.database_url("notifier", database="second one")


async def test_a_missing_password_stops_everything(cluster: Stack) -> None:
    passwords = {**role_passwords(cluster.home), "projects": ""}
    with pytest.raises(ValueError, match="no password for the database roles projects"):
        await bootstrap(cluster.postgres.admin_dsn(), passwords)


async def test_passwords_stay_out_of_the_server_log(new_home: Callable[[], Home]) -> None:
    loud = {"log_statement": "all", "log_min_duration_statement": "0"}
    async with Stack(new_home(), durable=False, with_oidc=False, postgres_settings=loud) as stack:
        log = "\n".join(stack.postgres.process.log)
        assert "CREATE DATABASE" in log
        assert not [role for role, password in role_passwords(stack.home).items() if password in log]
