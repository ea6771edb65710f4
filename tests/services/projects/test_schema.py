"""The migrated schema is what the models say, and every key of it stays inside its tenant."""

from collections.abc import Callable
from typing import Any, TypeVar

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from infra.local.stack import Stack
from infra.postgres.roles import Access
from services.projects import main
from services.projects.schema import Base

Environment = dict[str, str]
T = TypeVar("T")
TABLES = ["blob_deletions", "documents", "project_members", "projects"]


async def as_owner(stack: Stack, work: Callable[[Connection], T]) -> T:
    engine = create_async_engine(
        stack.database_url("projects", Access.OWNER), connect_args={"server_settings": {"search_path": "projects"}}
    )
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


async def test_the_models_equal_the_migrated_schema(stack: Stack, environment: Environment) -> None:
    def differences(connection: Connection) -> Any:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, kind, _: kind != "table" or name in TABLES}
        )
        return compare_metadata(context, Base.metadata)

    assert main.ROUTERS
    assert sorted(Base.metadata.tables) == TABLES
    assert await as_owner(stack, differences) == []


async def test_every_key_holds_the_tenant(stack: Stack, environment: Environment) -> None:
    """A key without it would tell one tenant, by a conflict, what another one has."""

    def keys(connection: Connection) -> list[tuple[str, str, bool]]:
        rows = connection.execute(
            text(
                "SELECT t.relname, c.conname, bool_or(a.attname = 'tenant_id') FROM pg_constraint c "
                "JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace "
                "JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = ANY(c.conkey) "
                "WHERE n.nspname = 'projects' AND c.contype IN ('p', 'u', 'f') AND t.relname = ANY(:tables) "
                "GROUP BY 1, 2"
            ),
            {"tables": TABLES},
        )
        return [(row[0], row[1], row[2]) for row in rows]

    found = await as_owner(stack, keys)
    assert len(found) >= 7
    assert [key for key in found if not key[2]] == []


async def test_row_security_is_forced_on_every_table(stack: Stack, environment: Environment) -> None:
    def unprotected(connection: Connection) -> list[str]:
        rows = connection.execute(
            text(
                "SELECT relname FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace "
                "WHERE n.nspname = 'projects' AND relkind = 'r' AND relname <> 'alembic_version' "
                "AND NOT (relrowsecurity AND relforcerowsecurity)"
            )
        )
        return [row[0] for row in rows]

    assert await as_owner(stack, unprotected) == []
