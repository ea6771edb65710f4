"""The fault proxy does what it says, for as long as it is told to."""

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest
from redis.asyncio import Redis

from infra.local.stack import Stack
from infra.postgres.roles import DATABASE
from tests.faults.proxy import HOST, FaultProxy, tcp
from tests.faults.systems import POSTGRES, REDIS, moved, upstream_of
from tests.support.polling import eventually


@pytest.fixture
async def echo() -> AsyncIterator[FaultProxy]:
    """A proxy in front of a server that sends back what it gets."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    async with FaultProxy(tcp(HOST, server.sockets[0].getsockname()[1]), most=4) as proxy:
        yield proxy
    server.close()


async def ask(proxy: FaultProxy, message: bytes) -> bytes:
    """Send, close the sending half, and read to the end."""
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    try:
        writer.write(message)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()


async def test_without_a_fault_everything_passes(echo: FaultProxy) -> None:
    message = bytes(range(256)) * 4096
    assert await ask(echo, message) == message
    assert echo.counts.accepted == 1
    assert echo.counts.bytes == 2 * len(message)
    await eventually(lambda: _true(echo.open == 0))


async def test_latency_holds_each_chunk_back_in_both_directions(echo: FaultProxy) -> None:
    echo.delay(0.1)
    began = time.perf_counter()
    assert await ask(echo, b"slow") == b"slow"
    assert time.perf_counter() - began >= 0.2


async def test_a_reset_breaks_what_is_open_and_what_comes(echo: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection(HOST, echo.port)
    writer.write(b"x")
    assert await reader.read(1) == b"x"
    echo.reset()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    with pytest.raises(ConnectionError):
        await ask(echo, b"still broken")
    await echo.heal()
    assert await ask(echo, b"well") == b"well"


async def test_a_black_hole_accepts_and_passes_nothing_until_it_is_healed(echo: FaultProxy) -> None:
    echo.blackhole()
    asking = asyncio.create_task(ask(echo, b"late"))
    done, _ = await asyncio.wait([asking], timeout=0.3)
    assert not done
    assert echo.counts.accepted == 1
    assert echo.counts.bytes == 0
    await echo.heal()
    assert await asking == b"late"


async def test_a_cut_breaks_the_connection_after_so_many_bytes(echo: FaultProxy) -> None:
    echo.cut_after(1500)
    with pytest.raises(ConnectionError):
        await ask(echo, bytes(1000))
    assert echo.counts.bytes == 1500
    assert echo.counts.broken == 1


async def test_refused_connections_come_back_on_the_same_port(echo: FaultProxy) -> None:
    port = echo.port
    await echo.refuse()
    with pytest.raises(ConnectionRefusedError):
        await ask(echo, b"nobody")
    await echo.heal()
    assert echo.port == port
    assert await ask(echo, b"back") == b"back"


async def test_connections_are_bounded(echo: FaultProxy) -> None:
    held = []
    for _ in range(4):
        reader, writer = await asyncio.open_connection(HOST, echo.port)
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        held.append(writer)
    with pytest.raises(ConnectionError):
        await ask(echo, b"one too many")
    assert echo.counts.turned_away == 1
    for writer in held:
        writer.close()


async def test_postgres_and_redis_answer_through_it(stack: Stack) -> None:
    async with FaultProxy(upstream_of(stack, POSTGRES)) as proxy:
        connection = await asyncpg.connect(moved(stack.postgres.admin_dsn(DATABASE), proxy.port))
        assert await connection.fetchval("SELECT current_database()") == stack.postgres.database_name(DATABASE)
        proxy.reset_once()
        with pytest.raises((asyncpg.PostgresConnectionError, ConnectionError, asyncpg.InterfaceError)):
            await connection.fetchval("SELECT 1")
    async with FaultProxy(upstream_of(stack, REDIS)) as proxy:
        redis = Redis.from_url(moved(stack.redis.url(), proxy.port))
        assert await redis.time()
        await redis.aclose()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("unix:///run/redis.sock?db=3", "redis://127.0.0.1:7000/3"),
        ("unix://svc:p%40ss@/run/redis.sock?db=0", "redis://svc:p%40ss@127.0.0.1:7000/0"),
        ("redis://svc:pw@10.0.0.1:6379/2", "redis://svc:pw@127.0.0.1:7000/2"),
        (
            "postgresql+asyncpg://svc:p%2Fw@/quarry?host=%2Frun%2Fpg&port=5432",
            "postgresql+asyncpg://svc:p%2Fw@127.0.0.1:7000/quarry",
        ),
    ],
)
def test_an_address_keeps_its_account_and_database_when_it_moves(url: str, expected: str) -> None:
    assert moved(url, 7000) == expected


async def _true(value: bool) -> bool:
    return value
