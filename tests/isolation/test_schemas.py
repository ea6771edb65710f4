"""The migrated schema of each service is what its models say: no column, index or constraint more or less."""

import importlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData
from sqlalchemy.ext.asyncio import create_async_engine

from infra.local.stack import Stack
from infra.postgres.roles import Access
from shared.db import Model
from shared.migrations import SERVICES_WITH_SCHEMA
from shared.project_access import KnownProject

PROJECTION = {KnownProject.__tablename__, "project_access"}
WITHOUT_PROJECTION = {"identity", "projects"}


def tables_of(service: str) -> MetaData:
    """The service's own tables, and those it shares the shape of with the others."""
    importlib.import_module(f"services.{service}.main")
    own: MetaData = importlib.import_module(f"services.{service}.orm_base").Base.metadata
    together = MetaData(naming_convention=own.naming_convention)
    for table in (*own.tables.values(), *Model.metadata.tables.values()):
        if table.name not in PROJECTION or service not in WITHOUT_PROJECTION:
            table.to_metadata(together)
    return together


@pytest.mark.parametrize("service", SERVICES_WITH_SCHEMA)
async def test_models_equal_the_migrated_schema(
    stack: Stack, migrated: Callable[[str], Awaitable[None]], service: str
) -> None:
    def differences(connection: Connection) -> Any:
        options = {"include_name": lambda name, kind, _: (kind, name) != ("table", "alembic_version")}
        return compare_metadata(MigrationContext.configure(connection, opts=options), tables_of(service))

    await migrated(service)
    owner = stack.database_url(service, Access.OWNER)
    engine = create_async_engine(owner, connect_args={"server_settings": {"search_path": service}})
    try:
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await engine.dispose()
