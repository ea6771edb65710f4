"""Servers in containers do what servers as processes do, and leave nothing behind."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import docker  # type: ignore[import-untyped]  # ships no annotations
import pytest
from redis import exceptions
from redis.asyncio import Redis
from testcontainers.core.container import DockerContainer

from infra.local.errors import ProcessError
from infra.local.home import ROOT, Home
from infra.local.stack import Stack
from shared.redis_clients import command_client
from tests.support import reaper
from tests.support.composed import composed
from tests.support.container_servers import ContainerPostgres, ContainerRedis, container_servers
from tests.support.containers import ContainerProcess
from tests.support.polling import eventually

pytestmark = pytest.mark.containers

_ORPHAN = """
import asyncio
from tests.support.container_servers import ContainerRedis
from tests.support.reaper import labels

async def main():
    await ContainerRedis().start()
    print(labels()["quarry.tests"], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def containers_of(run: str) -> list[str]:
    client = docker.from_env()
    try:
        return [item.name for item in client.containers.list(all=True, filters={"label": f"{reaper.LABEL}={run}"})]
    finally:
        client.close()


@pytest.fixture(scope="module")
async def contained(folders: Callable[[str], Path]) -> AsyncIterator[Stack]:
    async with Stack(Home(folders("contained")), durable=False, with_oidc=False, servers=container_servers) as running:
        yield running


async def test_data_and_addresses_outlive_kill_9(contained: Stack) -> None:
    addresses = (contained.postgres.admin_dsn(), contained.redis.url())
    admin = await asyncpg.connect(contained.postgres.admin_dsn())
    # Which servers of tests do not wait for otherwise.
    await admin.execute("SET synchronous_commit = on; CREATE TABLE kept AS SELECT 7 AS value")
    await admin.close()
    async with Redis.from_url(contained.redis.url()) as redis:
        await redis.set("kept", "7")
        await redis.waitaof(1, 0, 2_000)
    for server in (contained.postgres, contained.redis):
        server.process.kill()
        assert await server.process.wait() == 128 + signal.SIGKILL
        assert not server.process.running
        assert server.process.pid is None
        await server.start()
    assert addresses == (contained.postgres.admin_dsn(), contained.redis.url())
    admin = await asyncpg.connect(contained.postgres.admin_dsn())
    assert await admin.fetchval("SELECT value FROM kept") == 7
    await admin.close()
    async with Redis.from_url(contained.redis.url()) as redis:
        assert await redis.get("kept") == b"7"


async def test_a_server_that_stops_in_order_says_so_once(contained: Stack) -> None:
    for _ in range(2):
        await contained.postgres.stop()
        assert contained.postgres.process.returncode == 0
        await contained.postgres.start()
    stopped = [line for line in contained.postgres.process.log if "database system is shut down" in line]
    # While it made its data folder the image had stopped it once, too.
    assert len(stopped) == 3


async def test_an_erased_redis_is_empty_and_has_its_users(contained: Stack) -> None:
    async with Redis.from_url(contained.redis.url()) as redis:
        await redis.set("forgotten", "7")
    await contained.redis.stop()
    await contained.redis.erase()
    await contained.redis.start()
    async with Redis.from_url(contained.redis.url()) as redis:
        assert await redis.dbsize() == 0
    service = command_client(contained.redis.url(user="projects"))
    with pytest.raises(exceptions.NoPermissionError):
        await service.xadd("events.identity", {"event": b"{}"})
    await service.aclose()


async def test_a_frozen_server_keeps_its_connections_and_goes_on(contained: Stack) -> None:
    client = command_client(contained.redis.url())
    identity = await client.client_id()
    contained.redis.process.freeze()
    try:
        asked = asyncio.ensure_future(client.client_id())
        done, _ = await asyncio.wait([asked], timeout=0.5)
        assert not done
    finally:
        contained.redis.process.thaw()
    assert await asked == identity
    await client.aclose()


async def test_a_frozen_server_can_be_stopped(contained: Stack) -> None:
    contained.redis.process.freeze()
    await contained.redis.stop()
    assert not contained.redis.process.running
    await contained.redis.start()


async def test_servers_listen_on_loopback_alone_with_what_operators_run(contained: Stack) -> None:
    client = docker.from_env()
    (run,) = reaper.labels().values()
    found = client.containers.list(filters={"label": f"{reaper.LABEL}={run}"})
    images = {item.attrs["Config"]["Image"] for item in found}
    bound = [place["HostIp"] for item in found for places in item.ports.values() for place in places or ()]
    client.close()
    assert {composed("postgres").image, composed("redis").image} <= images
    assert set(bound) == {"127.0.0.1"}
    admin = await asyncpg.connect(contained.postgres.admin_dsn())
    assert await admin.fetchval("SHOW max_connections") == "200"
    assert await admin.fetchval("SHOW fsync") == "off"
    assert await admin.fetchval("SHOW client_connection_check_interval") == "5s"
    await admin.close()
    async with Redis.from_url(contained.redis.url()) as redis:
        settings = await redis.config_get("*")
    assert (settings["maxmemory-policy"], settings["appendonly"], settings["save"]) == ("noeviction", "yes", "")


async def test_a_server_that_cannot_start_says_why() -> None:
    wrong = ContainerPostgres("secret", settings={"no_such_setting": "1"})
    try:
        with pytest.raises(ProcessError, match=r"postgres ended with status 1:\n(.*\n)*.*no_such_setting"):
            await wrong.start()
    finally:
        await wrong.close()
    nowhere = ContainerProcess("nowhere", lambda given: DockerContainer("quarry.invalid/no:image"), port=1)
    with pytest.raises(ProcessError, match="nowhere cannot be started in a container"):
        await nowhere.start()
    with pytest.raises(ProcessError, match="was never started"):
        await nowhere.wait()
    assert await nowhere.stop() is None


async def test_a_running_server_is_not_started_twice(contained: Stack) -> None:
    with pytest.raises(ProcessError, match="redis is already running"):
        await contained.redis.start()
    assert contained.redis.process.running


async def test_a_port_that_somebody_holds_for_a_moment_is_waited_for() -> None:
    redis = ContainerRedis()
    await redis.start()
    try:
        await redis.stop()
        holder = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", redis.process.port)
        asyncio.get_running_loop().call_later(1.0, holder.close)
        began = time.monotonic()
        await redis.start()
        assert time.monotonic() - began >= 0.9
    finally:
        await redis.close()


async def test_a_test_process_that_is_killed_leaves_no_container() -> None:
    orphan = subprocess.Popen([sys.executable, "-c", _ORPHAN], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert orphan.stdout is not None
    run = (await asyncio.to_thread(orphan.stdout.readline)).strip()
    assert len(containers_of(run)) == 1
    orphan.kill()
    orphan.stdout.close()
    await asyncio.to_thread(orphan.wait)

    async def gone() -> bool:
        return not await asyncio.to_thread(containers_of, run)

    await eventually(gone, within=30, every=0.2)
