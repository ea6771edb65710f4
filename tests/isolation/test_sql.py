"""SQL as each service's own database roles: what the database alone keeps from somebody who gets that far."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from infra.local.stack import Stack
from infra.postgres.roles import DATABASE, Access, all_roles, role_name
from services.projects.documents import repository
from shared import db
from shared.migrations import SERVICES_WITH_SCHEMA
from shared.settings import DatabaseSettings
from shared.tenancy import CURRENT_TENANT, SYSTEM_ACCESS, Database
from shared.topology import SERVICES
from tests.isolation.registry import OPEN_KEYS, TABLES
from tests.isolation.sql_attacks import Ground, bound, findings
from tests.isolation.tables import (
    CANARY,
    Connection,
    Row,
    Table,
    described,
    fill,
    insert,
    new_row,
    plant,
    quoted,
    uproot,
)
from tests.support.serving import make_settings
from tests.support.stacks import EnvironmentOf, Migrate

OWN, FOREIGN = uuid.uuid4(), uuid.uuid4()
ISOLATED = sorted(name for name, rights in TABLES.items() if "INSERT" in rights.runtime)
HIDDEN = sorted(name for name, rights in TABLES.items() if not rights.runtime)
PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN")


class Planted:
    """The tables, and a row of two tenants in each."""

    def __init__(self, tables: dict[str, Table], own: dict[str, Row], foreign: dict[str, Row]) -> None:
        self.tables = tables
        self.own = own
        self.foreign = foreign

    def ground(self, name: str) -> Ground:
        return Ground(self.tables[name], self.own, self.foreign, (OWN, FOREIGN), frozenset(OPEN_KEYS))


@pytest.fixture(scope="module")
async def admin(stack: Stack, migrated: Migrate) -> AsyncIterator[Connection]:
    for service in SERVICES_WITH_SCHEMA:
        await migrated(service)
    connection = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
async def planted(admin: Connection) -> AsyncIterator[Planted]:
    tables = await described(admin, SERVICES_WITH_SCHEMA)
    # A made-up signing key would keep an identity that runs beside from reading the real ones.
    sown = {name: table for name, table in tables.items() if name != "identity.signing_keys"}
    rows = Planted(tables, await plant(admin, sown, OWN), await plant(admin, sown, FOREIGN))
    await admin.execute("ANALYZE")
    yield rows
    await uproot(admin, tables.values(), [OWN, FOREIGN])
    for name, table in sown.items():
        if not table.has_tenant:
            # The first column is a key, or part of one, and its values are nobody else's.
            column = table.columns[0].name
            condition = fill("DELETE FROM {table} WHERE {column} = ANY($1)", table, column=quoted(column))
            await admin.execute(condition, [planted[name][column] for planted in (rows.own, rows.foreign)])


@pytest.fixture(scope="module")
async def connections(stack: Stack, planted: Planted) -> AsyncIterator[Mapping[str, Connection]]:
    """A connection of every role that a service uses while it runs, by the role's name."""
    async with contextlib.AsyncExitStack() as closing:
        made = {}
        for service in SERVICES:
            for access in (Access.RUNTIME, Access.SYSTEM):
                url = stack.database_url(service, access).replace("+asyncpg", "")
                connection = await asyncpg.connect(url, server_settings={"search_path": service})
                closing.push_async_callback(connection.close)
                made[role_name(service, access)] = connection
        yield made


# --- every table ----------------------------------------------------------------------------------------------------


def test_the_tables_attacked_here_are_those_the_registry_knows(planted: Planted) -> None:
    assert set(planted.tables) == set(TABLES)
    for name in ISOLATED:
        assert planted.tables[name].has_tenant, name


@pytest.mark.parametrize("name", ISOLATED)
async def test_another_tenants_rows_are_out_of_reach(
    connections: Mapping[str, Connection], planted: Planted, name: str
) -> None:
    """Some thirty statements on every table, as the runtime role in a transaction of another tenant."""
    table = planted.tables[name]
    assert await findings(connections[table.service], planted.ground(name)) == []


@pytest.mark.parametrize("name", ISOLATED)
async def test_the_attacks_reach_a_table_without_its_policy(
    admin: Connection, connections: Mapping[str, Connection], planted: Planted, name: str
) -> None:
    """Else the test above would prove nothing. Each half of the policy by itself, then all of it."""
    table = planted.tables[name]
    mine = f"(tenant_id = (SELECT {CURRENT_TENANT}))"
    widened = {
        f"USING (true) WITH CHECK {mine}": "read",
        f"USING {mine} WITH CHECK (true)": "insert",
        "USING (true) WITH CHECK (true)": "read by key",
    }
    (before,) = await admin.fetch(
        "SELECT qual, with_check FROM pg_policies WHERE schemaname || '.' || tablename = $1 "
        "AND policyname = 'tenant_isolation'",
        name,
    )
    try:
        for policy, expected in widened.items():
            await admin.execute(fill("ALTER POLICY tenant_isolation ON {table} ", table) + policy)
            found = await findings(connections[table.service], planted.ground(name))
            assert [line for line in found if line.startswith(expected)], (policy, found)
    finally:
        restored = f"USING ({before['qual']}) WITH CHECK ({before['with_check']})"
        await admin.execute(fill("ALTER POLICY tenant_isolation ON {table} ", table) + restored)


@pytest.mark.parametrize("name", ISOLATED)
async def test_without_a_bound_tenant_no_row_is_seen(
    connections: Mapping[str, Connection], planted: Planted, name: str
) -> None:
    """Never bound, empty, unset, and values that are no tenant's id."""
    table = planted.tables[name]
    connection = connections[table.service]
    count = fill("SELECT count(*) FROM {table}", table)
    assert await connection.fetchval(count) == 0
    for value in ("", None):
        async with connection.transaction():
            await connection.execute("SELECT set_config('app.tenant_id', $1, true)", value)
            assert await connection.fetchval(count) == 0
    for value in (f"{FOREIGN},{OWN}", f"{FOREIGN}' OR '1'='1", "*", "null", "%"):
        with pytest.raises(asyncpg.InvalidTextRepresentationError):
            async with bound(connection, value):
                await connection.fetchval(count)


@pytest.mark.parametrize("name", HIDDEN)
async def test_what_belongs_to_no_tenant_is_closed_to_the_runtime_role(
    connections: Mapping[str, Connection], planted: Planted, name: str
) -> None:
    table = planted.tables[name]
    for statement in (
        "SELECT count(*) FROM {table}",
        "SELECT FROM {table} LIMIT 1",
        "DELETE FROM {table}",
        "INSERT INTO {table} DEFAULT VALUES",
        "LOCK TABLE {table} IN ACCESS SHARE MODE",
        "COPY {table} TO STDOUT",
    ):
        async with bound(connections[table.service], OWN):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connections[table.service].execute(fill(statement, table))


async def test_a_tenant_reads_the_names_of_its_own_members_alone(
    connections: Mapping[str, Connection], planted: Planted
) -> None:
    """`identity.users` has no tenant; the narrow policy asks for a membership that the bound tenant sees."""
    identity = connections["identity"]
    async with bound(identity, OWN):
        rows = await identity.fetch("SELECT id FROM users")
        assert [row["id"] for row in rows] == [planted.own["identity.memberships"]["user_id"]] or rows == []
        foreign = planted.foreign["identity.users"]["id"]
        assert await identity.fetch("SELECT name FROM users WHERE id = $1", foreign) == []
    for column in ("email_verified", "created_at"):
        async with bound(identity, OWN):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await identity.fetch(
                    fill("SELECT {column} FROM {table}", planted.tables["identity.users"], column=column)
                )


@pytest.mark.parametrize("name", sorted(TABLES))
async def test_each_role_has_the_privileges_it_is_known_to_need(admin: Connection, name: str) -> None:
    """Of all roles of all services: the owner's own are the only ones beside the registry's."""
    service = name.partition(".")[0]
    known = {service: TABLES[name].runtime, f"{service}_system": TABLES[name].system}
    for role in all_roles():
        if role == role_name(service, Access.OWNER):
            continue
        found = [
            privilege
            for privilege in PRIVILEGES
            if await admin.fetchval("SELECT has_table_privilege($1, $2, $3)", role, name, privilege)
            or (
                privilege in ("SELECT", "INSERT", "UPDATE", "REFERENCES")
                and await admin.fetchval("SELECT has_any_column_privilege($1, $2, $3)", role, name, privilege)
            )
        ]
        assert " ".join(found) == known.get(role, ""), role


async def test_the_system_role_reaches_the_tables_it_is_listed_for_and_no_other(
    connections: Mapping[str, Connection], planted: Planted
) -> None:
    for name, table in planted.tables.items():
        system = connections[f"{table.service}_system"]
        if name in SYSTEM_ACCESS:
            seen = await system.fetchval(fill("SELECT count(*) FROM {table}", table))
            assert seen >= 2 or name not in planted.own, name
            continue
        for statement in ("SELECT count(*) FROM {table}", "DELETE FROM {table}", "TRUNCATE {table}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await system.execute(fill(statement, table))


# --- becoming somebody else -----------------------------------------------------------------------------------------

BECOMING = [
    *(f"SET ROLE {role}" for role in (*all_roles(), "postgres", "pg_read_all_data", "pg_monitor")),
    *(f"SET SESSION AUTHORIZATION {role}" for role in (*all_roles(), "postgres")),
    "GRANT pg_read_all_data TO CURRENT_USER",
    "ALTER ROLE CURRENT_USER BYPASSRLS",
    "CREATE ROLE intruder",
    "SET session_replication_role = replica",
]
MAKING = (
    "CREATE TABLE planted (id int)",
    "CREATE TEMP TABLE jobs (id int)",
    "CREATE TEMP VIEW outbox AS SELECT 1",
    "CREATE VIEW spy AS SELECT * FROM outbox",
    "CREATE FUNCTION leak(text) RETURNS bool LANGUAGE sql AS 'SELECT true'",
    "CREATE FUNCTION pg_temp.leak(text) RETURNS bool LANGUAGE sql AS 'SELECT true'",
    "CREATE OPERATOR === (FUNCTION = texteq, LEFTARG = text, RIGHTARG = text)",
    "CREATE SCHEMA spies",
    "CREATE RULE spy AS ON SELECT TO outbox DO INSTEAD SELECT 1",
    "CREATE TRIGGER spy AFTER INSERT ON outbox EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE POLICY spy ON outbox USING (true)",
    "CREATE STATISTICS spy ON id, type FROM outbox",
    "CREATE PUBLICATION spy FOR TABLE outbox",
    "CREATE EXTENSION dblink",
    "DROP POLICY tenant_isolation ON outbox",
    "ALTER TABLE outbox DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE outbox NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE outbox OWNER TO CURRENT_USER",
    "COMMENT ON TABLE outbox IS 'seen'",
    "COPY outbox TO PROGRAM 'cat'",
    "COPY outbox TO '/tmp/outbox'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT lo_export(lo_creat(-1), '/tmp/spy')",
)


@pytest.mark.parametrize("role", [role_name(s, a) for s in SERVICES for a in (Access.RUNTIME, Access.SYSTEM)])
async def test_nobody_becomes_somebody_else_or_makes_anything(connections: Mapping[str, Connection], role: str) -> None:
    connection = connections[role]
    own = {f"SET ROLE {role}", f"SET SESSION AUTHORIZATION {role}"}
    makes = MAKING if not role.startswith("gateway") else ()
    for statement in (*BECOMING, *makes):
        if statement in own:
            continue
        with pytest.raises(asyncpg.PostgresError) as refusal:
            async with connection.transaction():
                await connection.execute(statement)
        assert refusal.value.sqlstate == "42501", (statement, refusal.value)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("ALTER SYSTEM SET row_security = off")


async def test_no_role_switches_row_security_off(connections: Mapping[str, Connection], planted: Planted) -> None:
    """Postgres then refuses what it would have to filter, instead of not filtering."""
    for name in ISOLATED:
        connection = connections[planted.tables[name].service]
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with bound(connection, OWN):
                await connection.execute("SET LOCAL row_security = off")
                await connection.fetchval(fill("SELECT count(*) FROM {table}", planted.tables[name]))


async def test_a_search_path_leads_into_no_other_schema(connections: Mapping[str, Connection]) -> None:
    for service in SERVICES_WITH_SCHEMA:
        for other in set(SERVICES_WITH_SCHEMA) - {service}:
            with pytest.raises(asyncpg.PostgresError) as refusal:
                async with bound(connections[service], OWN):
                    await connections[service].execute(f"SET LOCAL search_path = {other}, pg_temp")
                    await connections[service].fetchval("SELECT count(*) FROM outbox")
            # What a role may not use, it does not find either.
            assert refusal.value.sqlstate in ("42501", "42P01")


async def test_an_owner_is_held_by_the_policies_too(stack: Stack, planted: Planted) -> None:
    """FORCE: a service that by mistake runs as its owner reads nothing, whatever tenant it binds."""
    for service in SERVICES_WITH_SCHEMA:
        url = stack.database_url(service, Access.OWNER).replace("+asyncpg", "")
        owner = await asyncpg.connect(url, server_settings={"search_path": service})
        try:
            for table in planted.tables.values():
                if table.service == service:
                    async with bound(owner, FOREIGN):
                        assert await owner.fetchval(fill("SELECT count(*) FROM {table}", table)) == 0, table.name
        finally:
            await owner.close()


# --- what Postgres knows about all rows -----------------------------------------------------------------------------


async def test_conditions_are_not_tried_on_rows_of_others(
    connections: Mapping[str, Connection], planted: Planted
) -> None:
    """A condition that fails on a row, or says what is in it, would tell of the row; of none it says nothing."""
    for name in ISOLATED:
        table = planted.tables[name]
        connection = connections[table.service]
        for condition in ("length(t::text) / 0 = 1", "(t::text)::int = 0", "md5(t::text)::timestamptz = now()"):
            async with bound(connection, uuid.uuid4()):
                statement = fill("SELECT count(*) FROM {table} AS t WHERE {condition}", table, condition=condition)
                assert await connection.fetchval(statement) == 0, (name, condition)


async def test_statistics_show_no_values(connections: Mapping[str, Connection], planted: Planted) -> None:
    """Most common values and histograms are samples of all tenants' rows."""
    for service in SERVICES_WITH_SCHEMA:
        connection = connections[service]
        async with bound(connection, OWN):
            assert await connection.fetch("SELECT tablename FROM pg_stats WHERE schemaname = $1", service) == []
        for catalogue in ("pg_statistic", "pg_authid", "pg_statistic_ext_data"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(fill("SELECT 1 FROM {name}", planted.tables["identity.users"], name=catalogue))


async def test_sequences_tell_nobody_how_much_others_write(connections: Mapping[str, Connection]) -> None:
    for service in SERVICES_WITH_SCHEMA:
        for statement in (
            "SELECT last_value FROM outbox_position_seq",
            "SELECT nextval('outbox_position_seq')",
            "SELECT setval('outbox_position_seq', 1)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connections[service].execute(statement)


async def test_what_other_connections_run_is_not_shown_with_its_values(
    connections: Mapping[str, Connection], planted: Planted
) -> None:
    """Values are bound: a statement as `pg_stat_activity` shows it to another role has no text at all."""
    await connections["projects"].fetch("SELECT $1::text", CANARY)
    for role in ("identity", "indexing_system", "notifier"):
        rows = await connections[role].fetch("SELECT query FROM pg_stat_activity WHERE usename = 'projects'")
        assert {row["query"] for row in rows} <= {"<insufficient privilege>"}
    own = await connections["projects"].fetch("SELECT query FROM pg_stat_activity WHERE usename = 'projects'")
    assert not [row for row in own if CANARY in row["query"]]


# --- a connection's next transaction --------------------------------------------------------------------------------


async def test_a_prepared_statement_serves_whoever_is_bound_when_it_runs(
    connections: Mapping[str, Connection], planted: Planted
) -> None:
    """Drivers keep statements and Postgres keeps their plans, from one tenant's transaction to the next."""
    connection = connections["projects"]
    statement = await connection.prepare("SELECT tenant_id FROM projects")
    for _ in range(7):
        for tenant in (FOREIGN, OWN):
            async with bound(connection, tenant):
                assert {row["tenant_id"] for row in await statement.fetch()} == {tenant}


async def test_a_savepoint_takes_the_binding_back(connections: Mapping[str, Connection], planted: Planted) -> None:
    connection = connections["projects"]
    count = "SELECT count(*) FROM projects WHERE tenant_id = $1"
    async with bound(connection, OWN):
        inner = connection.transaction()
        await inner.start()
        await connection.execute("SELECT set_config('app.tenant_id', $1, true)", str(FOREIGN))
        await inner.rollback()
        assert await connection.fetchval(count, FOREIGN) == 0
    assert await connection.fetchval(count, FOREIGN) == 0


async def test_a_cursor_that_outlives_its_transaction_holds_what_its_tenant_saw(
    connections: Mapping[str, Connection], planted: Planted
) -> None:
    connection = connections["projects"]
    async with connection.transaction():
        await connection.execute("SELECT set_config('app.tenant_id', $1, true)", str(OWN))
        await connection.execute("DECLARE kept CURSOR WITH HOLD FOR SELECT tenant_id FROM projects")
    async with bound(connection, FOREIGN):
        assert {row["tenant_id"] for row in await connection.fetch("FETCH ALL FROM kept")} == {OWN}
    await connection.execute("CLOSE kept")


class ProjectsDatabase(DatabaseSettings):
    service: ClassVar[str] = "projects"


@pytest.fixture
async def database(service_environment: EnvironmentOf, planted: Planted) -> AsyncIterator[Database]:
    engines = await db.connect(make_settings(ProjectsDatabase, await service_environment("projects")))
    yield Database(engines)
    await engines.dispose()


ABORTS: dict[str, Any] = {
    "an error of SQL": "SELECT 1 / 0",
    "a statement's timeout": "SET LOCAL statement_timeout = 30; SELECT pg_sleep(5)",
    "a lock that cannot be had": "SET LOCAL lock_timeout = 30; LOCK TABLE projects IN ACCESS EXCLUSIVE MODE",
    "a lost connection": "SELECT pg_terminate_backend(pg_backend_pid())",
}


@pytest.mark.parametrize("how", [*ABORTS, "a task that was cancelled", "an error of the application"])
async def test_whatever_ends_a_transaction_its_tenant_ends_with_it(
    database: Database, admin: Connection, planted: Planted, how: str
) -> None:
    """The pool's next user of the connection sees no row and no setting, however the last one ended."""
    holding = admin.transaction()
    await holding.start()
    await admin.execute("LOCK TABLE projects.projects IN ROW SHARE MODE")
    try:
        for _ in range(3):
            await _end_badly(database, how)
    finally:
        await holding.rollback()
    assert await _left_in(database.engines.runtime) == [("", 0)] * database.engines.runtime.pool.size()  # type: ignore[attr-defined]  # a queue pool


async def _end_badly(database: Database, how: str) -> None:
    async def work() -> None:
        async with database.tenant(FOREIGN) as session:
            reason = {"tenant_guard": "ends badly on purpose"}
            seen = text("SELECT count(*) FROM projects").execution_options(**reason)
            assert await session.scalar(seen) == 1
            if how == "an error of the application":
                raise ZeroDivisionError
            if how == "a task that was cancelled":
                await session.execute(text("SELECT pg_sleep(30)").execution_options(**reason))
            for statement in ABORTS[how].split("; "):
                await session.execute(text(statement).execution_options(**reason))

    task = asyncio.create_task(work())
    if how == "a task that was cancelled":
        await asyncio.sleep(0.3)
        task.cancel()
    with pytest.raises((DBAPIError, ZeroDivisionError, asyncio.CancelledError)):
        await task


async def _left_in(engine: AsyncEngine) -> list[tuple[str, int]]:
    """Setting and rows that every connection of the pool shows before anything is bound."""
    async with contextlib.AsyncExitStack() as held:
        found = []
        for _ in range(engine.pool.size()):  # type: ignore[attr-defined]  # a queue pool
            connection = await held.enter_async_context(engine.connect())
            setting = await connection.scalar(text("SELECT coalesce(current_setting('app.tenant_id', true), '')"))
            found.append((setting, await connection.scalar(text("SELECT count(*) FROM projects"))))
        return found


async def test_locks_of_the_application_name_the_tenant(
    admin: Connection, database: Database, planted: Planted
) -> None:
    """Advisory locks know no tenants: a key another tenant can also arrive at would let one wait for the other."""
    project, digest = uuid.uuid4(), "0" * 64
    held = asyncio.Event()
    done = asyncio.Event()

    async def lock(session: AsyncSession) -> None:
        await repository.lock_content(session, project_id=project, sha256=digest)
        await repository.lock_name(session, project_id=project, name="a.txt")

    async def hold() -> None:
        async with database.tenant(FOREIGN) as session:
            await lock(session)
            held.set()
            await done.wait()

    holder = asyncio.create_task(hold())
    await held.wait()
    async with asyncio.timeout(30), database.tenant(OWN) as session:
        await lock(session)
    done.set()
    await holder


async def test_a_table_made_tomorrow_is_attacked_the_day_after(admin: Connection, planted: Planted) -> None:
    """The attacks read columns and keys from the catalogue: what they do to a new, unguarded table."""
    changing = admin.transaction()
    await changing.start()
    try:
        await admin.execute(
            "CREATE TABLE notifier.tomorrow (tenant_id uuid NOT NULL, id uuid NOT NULL, note text NOT NULL, "
            "CONSTRAINT pk_tomorrow PRIMARY KEY (id)); "
            "GRANT SELECT, INSERT, UPDATE, DELETE ON notifier.tomorrow TO notifier"
        )
        tables = await described(admin, ["notifier"])
        table = tables["notifier.tomorrow"]
        own, foreign = ({table.name: new_row(table, tenant, {})} for tenant in (OWN, FOREIGN))
        for row in (own, foreign):
            await insert(admin, table, row[table.name])
        await admin.execute("SET LOCAL ROLE notifier")
        found = await findings(admin, Ground(table, own, foreign, (OWN, FOREIGN), frozenset()))
    finally:
        await changing.rollback()
    assert "read by key" in found
    assert "delete" in found
    assert "insert: not refused" in found
    assert [line for line in found if line.startswith("inferred by pk_tomorrow")]
