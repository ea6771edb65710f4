"""Redis is killed: it comes back with its append-only file, or with nothing. Uploads are taken all the while."""

import httpx
import pytest

from tests.faults.fault_injection import restart_redis
from tests.faults.meters import measure, stretched
from tests.faults.watched import assert_invariants, watched_project
from tests.support.polling import eventually
from tests.support.system import System

pytestmark = pytest.mark.long

RECOVERY_SECONDS = 10.0


@pytest.fixture(scope="module")
async def owner(hasty: System) -> httpx.AsyncClient:
    _, client = await hasty.tenant("redis is lost")
    return client


@pytest.mark.parametrize("empty", [False, True], ids=["with its file", "with nothing"])
async def test_a_killed_redis_loses_and_repeats_nothing(hasty: System, owner: httpx.AsyncClient, empty: bool) -> None:
    async with watched_project(owner) as watched:
        await watched.upload(10)
        # Some of it is at every stage.
        await restart_redis(hasty.stack, empty=empty)
        await watched.upload(5)
        documents = await watched.all_indexed(within=stretched(RECOVERY_SECONDS + 10))
        assert len(documents) == 15
        watched.assert_told_once_in_order()
    await assert_invariants(hasty.stack)


async def test_services_wait_quietly_for_a_redis_that_is_gone(hasty: System, owner: httpx.AsyncClient) -> None:
    async with watched_project(owner) as watched:
        await watched.upload(2)
        await watched.all_indexed(within=stretched(30))
        hasty.stack.redis.process.kill()
        await hasty.stack.redis.process.wait()
        try:
            await watched.upload(3)
            for service in hasty.services.values():
                assert not await service.ready(), service.name
            readings = await measure(hasty.services.values(), seconds=5)
            await watched.upload(3)
        finally:
            await hasty.stack.redis.start()
        await watched.all_indexed(within=stretched(RECOVERY_SECONDS))
        watched.assert_told_once_in_order()
        await eventually(lambda: _all_ready(hasty), within=stretched(RECOVERY_SECONDS))
    await assert_invariants(hasty.stack)
    print("\ngone", *readings, sep="\n  ")
    for reading in readings:
        assert reading.cpu < 0.2, reading
        assert reading.lines < 5, reading


async def _all_ready(hasty: System) -> bool:
    return all([await service.ready() for service in hasty.services.values()])
