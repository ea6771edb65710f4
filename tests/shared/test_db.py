"""Connections to Postgres that ended, or whose other end may have vanished."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from infra.local.stack import Stack
from shared import db, keepalive
from shared.tenancy import Database
from tests.faults.proxy import FaultProxy
from tests.faults.systems import POSTGRES, moved, upstream_of
from tests.shared.conftest import SampleSettings
from tests.support.polling import eventually

_URLS = ("database_url", "system_database_url")
# With a wait: a process that no longer shows may not have closed its socket yet.
_ENDED = text(
    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = current_user AND pid <> :but"
)
_ONE = text("SELECT 1").execution_options(tenant_guard="reads no row")
_OTHERS = text("SELECT count(*) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()")


@pytest.fixture
async def other(settings: SampleSettings) -> AsyncIterator[db.Engines]:
    """Another process's connections, with the same roles."""
    engines = await db.connect(settings)
    yield engines
    await engines.dispose()


async def test_a_connection_that_ended_in_the_pool_is_replaced_before_anybody_gets_it(
    database: Database, other: db.Engines
) -> None:
    tenants = [uuid.uuid4() for _ in range(4)]
    together = asyncio.Barrier(len(tenants))

    async def use(tenant_id: uuid.UUID) -> int:
        async with database.tenant(tenant_id) as session:
            one: int = (await session.execute(_ONE)).scalar_one()
            await together.wait()
            return one

    await asyncio.gather(*(use(tenant) for tenant in tenants))
    async with other.runtime.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")  # within a transaction activity stands still
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        ended = (await connection.scalars(_ENDED, {"but": pid})).all()
        assert len(ended) >= len(tenants)

        async def gone() -> bool:
            return not await connection.scalar(_OTHERS)

        await eventually(gone)
    assert await asyncio.gather(*(use(tenant) for tenant in tenants)) == [1] * len(tenants)


async def test_the_server_ends_the_session_of_a_client_that_has_vanished(database: Database) -> None:
    settings = text("SELECT name, reset_val, source FROM pg_settings WHERE name = ANY(:names)")
    for engine in (database.engines.runtime, database.engines.system):
        async with engine.connect() as connection:
            rows = (await connection.execute(settings, {"names": list(keepalive.OF_POSTGRES)})).all()
        assert {row.name: row.reset_val for row in rows} == keepalive.OF_POSTGRES
        assert {row.source for row in rows} == {"client"}


async def test_a_server_that_has_vanished_is_noticed(stack: Stack, settings: SampleSettings) -> None:
    async with FaultProxy(upstream_of(stack, POSTGRES)) as proxy:
        urls = {name: moved(getattr(settings, name).get_secret_value(), proxy.port) for name in _URLS}
        engines = await db.connect(settings.model_copy(update={name: SecretStr(url) for name, url in urls.items()}))
        async with engines.runtime.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            sock = driver._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == keepalive.IDLE_SECONDS
        await engines.dispose()


async def test_another_kind_of_transaction_is_refused_instead_of_silently_not_given(database: Database) -> None:
    async with database.engines.runtime.connect() as connection:
        await connection.execution_options(isolation_level="SERIALIZABLE")
        with pytest.raises(NotImplementedError):
            await connection.scalar(text("SELECT 1"))
