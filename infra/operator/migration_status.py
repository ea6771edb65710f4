"""Whether the database is at the newest migration, determined without importing Alembic, models or services.

A fingerprint of the migration files, and of the revision they led to, is kept in the database as the comment of each
schema, where it shares the fate of the data. After a changed file, another revision or a new database it no longer
matches, and migrations run. They are idempotent, so a needless run costs only a second.
"""

import hashlib
from pathlib import Path

import asyncpg

from shared.topology import SERVICES


def _folder(root: Path, service: str) -> Path:
    return root / "services" / service / "migrations"


def migrated_services(root: Path) -> list[str]:
    """Services that have migrations."""
    return [service for service in SERVICES if _folder(root, service).is_dir()]


async def are_applied(root: Path, admin_dsn: str) -> bool:
    """Whether every service's schema is where its migration files lead."""
    connection = await asyncpg.connect(admin_dsn)
    try:
        return all(
            [
                await _comment(connection, name) == await _state(root, connection, name)
                for name in migrated_services(root)
            ]
        )
    finally:
        await connection.close()


async def remember(root: Path, admin_dsn: str) -> None:
    """Note that all migrations have been applied."""
    connection = await asyncpg.connect(admin_dsn)
    try:
        for service in migrated_services(root):
            state = await _state(root, connection, service)
            statement = await connection.fetchval(
                "SELECT format('COMMENT ON SCHEMA %I IS %L', $1::text, $2::text)", service, state
            )
            await connection.execute(statement)
    finally:
        await connection.close()


async def _comment(connection: asyncpg.Connection, service: str) -> str | None:
    comment: str | None = await connection.fetchval(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1", service
    )
    return comment


async def _state(root: Path, connection: asyncpg.Connection, service: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(_folder(root, service).rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    revision = "none"
    table = await connection.fetchval("SELECT to_regclass(format('%I.alembic_version', $1::text))::text", service)
    if table is not None:
        query = await connection.fetchval(
            "SELECT format('SELECT version_num FROM %I.alembic_version', $1::text)", service
        )
        revision = ",".join(sorted(row["version_num"] for row in await connection.fetch(query)))
    return f"migrations {digest.hexdigest()[:32]} at {revision}"
