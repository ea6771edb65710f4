"""Postgres as a service sees it: pools, made in the lifespan, each with a role that owns nothing.

`runtime` connects as `<service>`: every row it sees is of the tenant bound to its transaction (`shared.tenancy`).
`system` connects as `<service>_system`: the few tables of `shared.tenancy.SYSTEM_ACCESS`, across tenants.

Fails by: a `sqlalchemy.exc.DBAPIError` in bounded time. A caller waits at most `database_pool_seconds` for a connection
of the pool and `CONNECT_SECONDS` for a new one. A living server ends a statement itself
(`infra.postgres.roles.LIMITS`); one that has stopped responding is given up a second later, and with it every
connection of the pool. A connection that ended while idle in the pool is replaced before it is handed out. Each end
notices that the other has vanished (`shared.keepalive`), and the server then ends the session with all of its locks.
"""

import asyncio
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
from pydantic import SecretStr
from sqlalchemy import DateTime, MetaData, Text, Uuid, event, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection, ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared import keepalive
from shared.settings import DatabaseSettings, SettingsError

CONNECT_SECONDS: Final = 2.0
# A second more than the server's own limits, so that a living server always reports first.
_RUNTIME_STATEMENT_SECONDS: Final = 5.0
_SYSTEM_STATEMENT_SECONDS: Final = 31.0
# One listens, one settles waits, the others serve polls.
_LEASE_CONNECTIONS: Final = 4
_OUTAGE_CLASSES: Final = frozenset({"08", "40", "53", "55", "57", "58"})
_READ_ONLY, _IDLE_IN_TRANSACTION, _TRANSACTION_TOO_LONG = "25006", "25P03", "25P04"
_OUTAGE_STATES: Final = frozenset({_READ_ONLY, _IDLE_IN_TRANSACTION, _TRANSACTION_TOO_LONG})

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
    """The pools of one service. `leases` is for `shared.invalidations`: requests wait for it while they hold a
    connection of another pool."""

    runtime: AsyncEngine
    system: AsyncEngine
    leases: AsyncEngine

    async def dispose(self) -> None:
        await self.runtime.dispose()
        await self.system.dispose()
        await self.leases.dispose()


async def connect(settings: DatabaseSettings) -> Engines:
    """Open the pools and refuse roles that could bypass Row Level Security.

    Raises:
        SettingsError: a role is superuser, bypasses RLS, or owns a table.
    """
    engines = Engines(
        runtime=_engine(
            settings,
            settings.database_url,
            settings.database_pool_size,
            settings.service,
            _RUNTIME_STATEMENT_SECONDS,
        ),
        system=_engine(
            settings,
            settings.system_database_url,
            max(4, settings.database_pool_size // 2),
            f"{settings.service}-system",
            _SYSTEM_STATEMENT_SECONDS,
        ),
        leases=_engine(
            settings,
            settings.system_database_url,
            _LEASE_CONNECTIONS,
            f"{settings.service}-leases",
            _SYSTEM_STATEMENT_SECONDS,
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


def _engine(
    settings: DatabaseSettings, url: SecretStr, pool_size: int, application_name: str, statement_seconds: float
) -> AsyncEngine:
    # No overflow: a pool smaller than the load with overflow opens and closes connections all the time.
    engine = create_async_engine(
        url.get_secret_value(),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=settings.database_pool_seconds,
        pool_pre_ping=False,
        # A statement's values are tenants' data: they do not belong in the log line of its error.
        hide_parameters=True,
        connect_args={
            "async_creator_fn": _open_connection,
            "timeout": CONNECT_SECONDS,
            "command_timeout": statement_seconds,
            "server_settings": {
                "application_name": application_name,
                "search_path": settings.service,
                "timezone": "UTC",
                "jit": "off",
                **keepalive.OF_POSTGRES,
            },
        },
    )
    event.listen(engine.sync_engine, "handle_error", _give_up_on_silence)
    event.listen(engine.sync_engine, "checkout", _on_checkout)
    return engine


class _Transaction:
    """A transaction as SQLAlchemy's adapter opens and ends one. Its first statement travels together with BEGIN."""

    def __init__(self, connection: "_Connection", begin: str) -> None:
        self._connection = connection
        self._begin = begin

    async def start(self) -> None:
        await self._connection.execute(self._begin)

    async def commit(self) -> None:
        await self._connection.execute("COMMIT")

    async def rollback(self) -> None:
        await self._connection.execute("ROLLBACK")


class _Connection(asyncpg.Connection):
    """A connection that checks now and then whether its other end is still there.

    `first_statement` is sent with the beginning of its next transaction only.
    """

    first_statement = ""

    def __init__(self, protocol: Any, transport: asyncio.BaseTransport, *args: Any) -> None:
        super().__init__(protocol, transport, *args)
        keepalive.watch(transport.get_extra_info("socket"))

    def transaction(  # type: ignore[override]  # what SQLAlchemy's adapter asks for, and all of a transaction it uses
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> _Transaction:
        if isolation not in (None, "read_committed") or readonly or deferrable:
            raise NotImplementedError("transactions are as the server's default makes them")
        begin, self.first_statement = f"BEGIN; {self.first_statement}", ""
        return _Transaction(self, begin)


def begin_with(connection: Connection, statement: str) -> None:
    """Begin the next transaction of `connection` with a statement, without a round trip of its own.

    Args:
        statement: sent as it is, so it must contain nothing that came from outside.
    """
    driver: Any = connection.connection.driver_connection
    driver.first_statement = statement


async def _open_connection(*args: Any, **options: Any) -> "asyncpg.Connection[Any]":
    """`asyncpg.connect`; a server that is not there and one that does not respond raise the same outage."""
    try:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(*args, **options, connection_class=_Connection)
    except OSError as error:
        reason = str(error) or type(error).__name__
        raise asyncpg.CannotConnectNowError(f"Postgres cannot be reached: {reason}") from error
    return connection


def _on_checkout(connection: DBAPIConnection, _record: object, _proxy: object) -> None:
    """A restarted server, or one noticed to have vanished, ended this connection and so the others of the pool."""
    driver = getattr(connection, "driver_connection", None)
    if isinstance(driver, _Connection):
        if driver.is_closed():
            raise InvalidatePoolError
        # Left by a session that then sent nothing: it must not reach the connection's next user.
        driver.first_statement = ""


def _give_up_on_silence(context: ExceptionContext) -> OperationalError | None:
    """A statement without a response is an outage. Its connection is cut off at once: asking a silent server to cancel
    the statement would take as long again."""
    if not isinstance(context.original_exception, TimeoutError) or context.connection is None:
        return None
    driver = context.connection.connection.driver_connection
    if isinstance(driver, asyncpg.Connection):
        driver.terminate()
    context.is_disconnect = True
    return OperationalError(
        context.statement, None, ConnectionError("Postgres does not respond"), connection_invalidated=True
    )


def is_outage(error: BaseException) -> bool:
    """Postgres is down, restarting, read-only, too busy, or chose us as a deadlock's victim: worth trying again."""
    if isinstance(error, InterfaceError) and isinstance(getattr(error.orig, "__cause__", None), ValueError):
        # The driver could not send a value: trying again will not help.
        return False
    if isinstance(error, (OSError, PoolTimeoutError, InterfaceError, OperationalError)):
        return True
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", "") or "")
        return error.connection_invalidated or state[:2] in _OUTAGE_CLASSES or state in _OUTAGE_STATES
    return False


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
