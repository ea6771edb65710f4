"""The migrated schema is what the models say, and every key and row of it stays inside its tenant."""

from collections.abc import Callable
from typing import Any, TypeVar

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.ext.asyncio import create_async_engine

from infra.local.stack import Stack
from infra.postgres.roles import Access
from services.indexing import main
from services.indexing.schema import Base
from shared.db import Model
from shared.tenancy import SYSTEM_ACCESS

Environment = dict[str, str]
T = TypeVar("T")
OWN = ["chunks", "documents", "embedded_batches", "jobs", "vector_changes"]
SHARED = ["dead_letters", "inbox", "known_projects", "outbox", "project_access", "relay_state"]


async def as_owner(stack: Stack, work: Callable[[Connection], T]) -> T:
    engine = create_async_engine(
        stack.database_url("indexing", Access.OWNER), connect_args={"server_settings": {"search_path": "indexing"}}
    )
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


async def test_the_models_equal_the_migrated_schema(stack: Stack, environment: Environment) -> None:
    def differences(connection: Connection, metadata: MetaData, tables: list[str]) -> Any:
        context = MigrationContext.configure(
            connection,
            # Text and varchar without a length are one type in Postgres; the tables all services have use both.
            opts={
                "include_name": lambda name, kind, _: kind != "table" or name in tables,
                "compare_type": tables is OWN,
            },
        )
        return compare_metadata(context, metadata)

    assert main.ROUTERS
    assert sorted(Base.metadata.tables) == OWN
    assert await as_owner(stack, lambda connection: differences(connection, Base.metadata, OWN)) == []
    shared = [name for name in SHARED if name in Model.metadata.tables]
    assert shared == SHARED
    assert await as_owner(stack, lambda connection: differences(connection, Model.metadata, SHARED)) == []


async def test_every_key_holds_the_tenant(stack: Stack, environment: Environment) -> None:
    """A key without it would tell one tenant, by a conflict, what another one has."""

    def keys(connection: Connection) -> list[tuple[str, bool]]:
        rows = connection.execute(
            text(
                "SELECT c.conname, bool_or(a.attname = 'tenant_id') FROM pg_constraint c "
                "JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace "
                "JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = ANY(c.conkey) "
                "WHERE n.nspname = 'indexing' AND c.contype IN ('p', 'u', 'f') AND t.relname = ANY(:tables) "
                "GROUP BY 1"
            ),
            {"tables": OWN},
        )
        return [(row[0], row[1]) for row in rows]

    found = await as_owner(stack, keys)
    assert len(found) >= 8
    assert [key for key in found if not key[1]] == []


async def test_row_security_is_forced_and_only_listed_tables_are_open_to_the_system_role(
    stack: Stack, environment: Environment
) -> None:
    def protection(connection: Connection) -> dict[str, tuple[bool, list[str]]]:
        rows = connection.execute(
            text(
                "SELECT t.relname, t.relrowsecurity AND t.relforcerowsecurity, "
                "array_remove(array_agg(p.polname ORDER BY p.polname), NULL) FROM pg_class t "
                "JOIN pg_namespace n ON n.oid = t.relnamespace LEFT JOIN pg_policy p ON p.polrelid = t.oid "
                "WHERE n.nspname = 'indexing' AND t.relkind = 'r' AND t.relname <> 'alembic_version' GROUP BY 1, 2"
            )
        )
        return {row[0]: (row[1], [str(name) for name in row[2]]) for row in rows}

    found = await as_owner(stack, protection)
    assert sorted(found) == sorted([*OWN, *SHARED])
    assert [name for name, (forced, _) in found.items() if not forced] == []
    listed = {name.removeprefix("indexing.") for name in SYSTEM_ACCESS if name.startswith("indexing.")}
    assert {name for name, (_, policies) in found.items() if "system_access" in policies} == listed
    assert all("tenant_isolation" in found[name][1] for name in OWN)
