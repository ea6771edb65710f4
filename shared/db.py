"""Postgres as a service sees it: two pools, made in the lifespan, each with a role that owns nothing.

`runtime` connects as `<service>`: every row it sees is of the tenant bound to its transaction (`shared.tenancy`).
`system` connects as `<service>_system`: the few tables of `shared.tenancy.SYSTEM_ACCESS`, across tenants.
"""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr
from sqlalchemy import DateTime, MetaData, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.settings import DatabaseSettings, SettingsError

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


def new_metadata() -> MetaData:
    """Metadata whose constraint names Alembic can find again. Tables carry no schema: a service's connections have
    `search_path` set to its own schema, so the tables every service has (outbox, inbox, ...) are mapped once."""
    return MetaData(naming_convention=NAMING_CONVENTION)


class Model(DeclarativeBase):
    """Base of the mapped classes that every service has. A service derives its own abstract base with its own metadata:

    class Base(Model):
        __abstract__ = True
        metadata = new_metadata()
    """

    metadata = new_metadata()
    type_annotation_map = {  # noqa: RUF012  # read by SQLAlchemy as declared
        datetime: DateTime(timezone=True),
        uuid.UUID: Uuid(as_uuid=True),
        str: Text(),
        dict[str, Any]: JSONB,
    }


class Identified:
    """A `uuidv7()` primary key: time-ordered, made by Postgres 18 unless the caller already has one."""

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))


class Timestamped:
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"), onupdate=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Engines:
    """The two pools of one service."""

    runtime: AsyncEngine
    system: AsyncEngine

    async def dispose(self) -> None:
        await self.runtime.dispose()
        await self.system.dispose()


async def connect(settings: DatabaseSettings) -> Engines:
    """Open both pools and refuse roles that could step over Row Level Security.

    Raises:
        SettingsError: a role is superuser, bypasses RLS, or owns a table.
    """
    engines = Engines(
        runtime=_engine(settings.database_url, settings.database_pool_size, settings.service, settings.service),
        system=_engine(
            settings.system_database_url,
            max(4, settings.database_pool_size // 2),
            settings.service,
            f"{settings.service}-system",
        ),
    )
    try:
        for engine in (engines.runtime, engines.system):
            async with engine.connect() as connection:
                await _refuse_powerful_role(connection)
    except BaseException:
        await engines.dispose()
        raise
    return engines


def _engine(url: SecretStr, pool_size: int, service: str, application_name: str) -> AsyncEngine:
    # No overflow: a pool smaller than the load with overflow opens and closes connections all the time.
    return create_async_engine(
        url.get_secret_value(),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=3.0,
        pool_pre_ping=False,
        connect_args={
            "timeout": 5,
            "command_timeout": 30,
            "server_settings": {
                "application_name": application_name,
                "search_path": service,
                "timezone": "UTC",
                "jit": "off",
            },
        },
    )


async def _refuse_powerful_role(connection: AsyncConnection) -> None:
    row = (
        await connection.execute(
            text(
                "SELECT current_user AS name, rolsuper, rolbypassrls, "
                "EXISTS (SELECT 1 FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner "
                "        WHERE o.rolname = current_user) AS owns "
                "FROM pg_roles WHERE rolname = current_user"
            )
        )
    ).one()
    if row.rolsuper or row.rolbypassrls or row.owns:
        raise SettingsError(
            f"the database role {row.name!r} is a superuser, bypasses row security or owns tables: "
            "a service must run as its restricted role"
        )
