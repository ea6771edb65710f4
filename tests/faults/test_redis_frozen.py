"""Redis stops answering without closing a connection (SIGSTOP), and goes on later."""

import asyncio
import time

import httpx
import pytest

from tests.faults.fault_injection import frozen
from tests.faults.meters import measure, stretched
from tests.faults.watched import assert_invariants, watched_project
from tests.support.system import System

pytestmark = pytest.mark.long

RECOVERY_SECONDS = 10.0
ANSWER_SECONDS = 5.0


@pytest.fixture(scope="module")
async def owner(hasty: System) -> httpx.AsyncClient:
    _, client = await hasty.tenant("redis is frozen")
    return client


async def test_a_frozen_redis_delays_events_and_nothing_else(hasty: System, owner: httpx.AsyncClient) -> None:
    async with watched_project(owner) as watched:
        await watched.upload(3)
        await watched.all_indexed(within=stretched(30))
        async with frozen(hasty.stack.redis.process):
            started = time.monotonic()
            await watched.upload(1)
            first = time.monotonic() - started
            assert not any(await asyncio.gather(*(service.ready() for service in hasty.services.values())))
            started = time.monotonic()
            await watched.upload(5)
            five = time.monotonic() - started
            readings = await measure(hasty.services.values(), seconds=5)
        await watched.all_indexed(within=stretched(RECOVERY_SECONDS))
        watched.assert_told_once_in_order()
        await asyncio.gather(*(service.wait_ready(stretched(RECOVERY_SECONDS)) for service in hasty.services.values()))
    await assert_invariants(hasty.stack)
    print(f"\nfrozen: first upload {first:.2f} s, five more {five:.2f} s", *readings, sep="\n  ")
    # The rate limiter's timeout, once; then it counts locally.
    assert first < stretched(ANSWER_SECONDS)
    assert five < stretched(ANSWER_SECONDS)
    for reading in readings:
        assert reading.cpu < 0.2, reading
        assert reading.lines < 5, reading
