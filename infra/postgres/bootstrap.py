"""Database, schemas and roles, made or repaired: safe to run at every start and from several places at once.

Guarantees: after `bootstrap` each service has its schema and its three roles as `infra.postgres.roles` describes them,
PUBLIC has nothing on the database, and passwords are those given. Everything but CREATE DATABASE is one transaction.
Does not: touch tables (migrations do), or drop roles and schemas that are no longer wanted.
Fails with the server's own error, e.g. when the administrator may not create roles.

Identifiers and passwords of DDL cannot be bound, so each statement is composed by the server itself: `format` with `%I`
and `%L` takes them as bound parameters.
"""

from collections.abc import Mapping

import asyncpg

from infra.postgres.roles import DATABASE, LIMITS, Access, all_roles, role_name
from shared.topology import SERVICES

# Any constant will do, as long as every process that runs this uses the same.
_LOCK = 7_201_850_311


async def bootstrap(admin_dsn: str, passwords: Mapping[str, str], *, database: str = DATABASE) -> None:
    """Make `database` and everything in it that is not a table.

    Args:
        admin_dsn: `postgresql://...` of a role that may create roles and databases; its database is only connected to.
        passwords: password of every role of `infra.postgres.roles.all_roles()`.

    Raises:
        ValueError: a password is missing or empty.
        asyncpg.PostgresError: what the server refused.
    """
    missing = sorted(role for role in all_roles() if not passwords.get(role))
    if missing:
        raise ValueError(f"no password for the database roles {', '.join(missing)}")
    admin = await asyncpg.connect(admin_dsn)
    try:
        # Held until the connection closes: a second bootstrap waits and then finds everything done.
        await admin.execute("SELECT pg_advisory_lock($1)", _LOCK)
        if not await admin.fetchval("SELECT true FROM pg_database WHERE datname = $1", database):
            await _execute(admin, "CREATE DATABASE %I TEMPLATE template0", database)
        target = await asyncpg.connect(admin_dsn, database=database)
        try:
            async with target.transaction():
                await _describe(target, database, passwords)
        finally:
            await target.close()
    finally:
        await admin.close()


async def _describe(connection: asyncpg.Connection, database: str, passwords: Mapping[str, str]) -> None:
    # Passwords are part of the statements below: keep those out of the server's log, even when one fails.
    await connection.execute(
        "SET LOCAL log_statement = 'none'; SET LOCAL log_min_duration_statement = -1; "
        "SET LOCAL log_min_error_statement = 'panic'"
    )
    await _execute(connection, "REVOKE ALL ON DATABASE %I FROM PUBLIC", database)
    await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    for service in SERVICES:
        for access in Access:
            role = role_name(service, access)
            await _make_role(connection, role, passwords[role])
            await _execute(connection, "GRANT CONNECT ON DATABASE %I TO %I", database, role)
            settings = {**LIMITS[access], "search_path": service}
            for name, value in settings.items():
                await _execute(connection, "ALTER ROLE %I IN DATABASE %I SET %I = %L", role, database, name, value)
        await _make_schema(connection, service)


async def _make_role(connection: asyncpg.Connection, role: str, password: str) -> None:
    if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role):
        await _execute(connection, "CREATE ROLE %I", role)
    await _execute(
        connection,
        "ALTER ROLE %I WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS PASSWORD %L",
        role,
        password,
    )
    groups = await connection.fetch(
        "SELECT granted.rolname FROM pg_auth_members m "
        "JOIN pg_roles granted ON granted.oid = m.roleid JOIN pg_roles member ON member.oid = m.member "
        "WHERE member.rolname = $1",
        role,
    )
    for group in groups:
        await _execute(connection, "REVOKE %I FROM %I", group["rolname"], role)


async def _make_schema(connection: asyncpg.Connection, service: str) -> None:
    owner = role_name(service, Access.OWNER)
    await _execute(connection, "CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I", service, owner)
    await _execute(connection, "ALTER SCHEMA %I OWNER TO %I", service, owner)
    await _execute(connection, "REVOKE ALL ON SCHEMA %I FROM PUBLIC", service)
    for access in (Access.RUNTIME, Access.SYSTEM):
        await _execute(connection, "GRANT USAGE ON SCHEMA %I TO %I", service, role_name(service, access))
    # PostgreSQL lets every role execute a new function unless told otherwise.
    await _execute(connection, "ALTER DEFAULT PRIVILEGES FOR ROLE %I REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC", owner)


async def _execute(connection: asyncpg.Connection, template: str, *arguments: str) -> None:
    statement: str = await connection.fetchval(
        "SELECT format($1::text, VARIADIC $2::text[])", template, list(arguments)
    )
    await connection.execute(statement)
