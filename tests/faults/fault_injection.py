"""What is done to Redis and PostgreSQL while the system runs, each undone at the end of its block."""

import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import asyncpg
from redis.asyncio import Redis

from infra.local.server_protocols import ServerProcess
from infra.local.stack import Stack
from infra.postgres.roles import DATABASE
from tests.support.polling import eventually

CLOSED_PORT = 1
"""Of the privileged ones, where nothing listens."""


@asynccontextmanager
async def redis_of(stack: Stack) -> AsyncIterator[Redis]:
    """A client with all rights."""
    client = Redis.from_url(stack.redis.url())
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def redis_is_a_replica(stack: Stack) -> AsyncIterator[None]:
    """Every write is answered READONLY."""
    async with redis_of(stack) as redis:
        await redis.replicaof("127.0.0.1", str(CLOSED_PORT))
        try:
            yield
        finally:
            await redis.replicaof("NO", "ONE")


@asynccontextmanager
async def redis_configured(stack: Stack, settings: Mapping[str, str]) -> AsyncIterator[None]:
    """Other settings for a while, e.g. no memory (`maxmemory 1`) or replicas wanted (`min-replicas-to-write 1`)."""
    async with redis_of(stack) as redis:
        before = {name: str((await redis.config_get(name))[name]) for name in settings}
        for name, value in settings.items():
            await redis.config_set(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                await redis.config_set(name, value)


@asynccontextmanager
async def frozen(*processes: ServerProcess) -> AsyncIterator[None]:
    """Stopped by SIGSTOP with all their children, and continued."""
    for process in processes:
        process.freeze()
    try:
        yield
    finally:
        for process in processes:
            process.thaw()


async def restart_redis(stack: Stack, *, empty: bool = False) -> None:
    """`kill -9`, then start again: with its append-only file, or with nothing."""
    stack.redis.process.kill()
    await stack.redis.process.wait()
    if empty:
        await stack.redis.erase()
    await stack.redis.start()


async def restart_postgres(stack: Stack, number: signal.Signals) -> None:
    """SIGQUIT is PostgreSQL's immediate shutdown; SIGKILL leaves its children to find out by themselves."""
    stack.postgres.process.send(number)
    await stack.postgres.process.wait()
    await stack.postgres.start()


@asynccontextmanager
async def admin_of(stack: Stack) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection to the services' database."""
    connection = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def postgres_is_read_only(stack: Stack) -> AsyncIterator[None]:
    """Every transaction begun from now on is read-only, in connections that exist too."""
    async with admin_of(stack) as admin:
        await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await _reload(admin, "on")
        try:
            yield
        finally:
            # Outside of a transaction: this one would be read-only as well.
            await admin.execute("SET default_transaction_read_only = off")
            await admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
            await admin.execute("RESET default_transaction_read_only")
            await _reload(admin, "off")


async def _reload(admin: asyncpg.Connection, wanted: str) -> None:
    await admin.execute("SELECT pg_reload_conf()")

    async def arrived() -> bool:
        return bool(await admin.fetchval("SHOW default_transaction_read_only") == wanted)

    await eventually(arrived)
