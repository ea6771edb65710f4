"""Redis answers with errors only: READONLY, OOM, NOREPLICAS. Uploads are taken, services wait quietly and catch up."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx
import pytest

from infra.local.stack import Stack
from tests.faults.fault_injection import redis_configured, redis_is_a_replica
from tests.faults.meters import measure, stretched
from tests.faults.watched import assert_invariants, watched_project
from tests.support.system import System

pytestmark = pytest.mark.long

Fault = Callable[[Stack], AbstractAsyncContextManager[None]]

FAULTS: dict[str, Fault] = {
    "READONLY": redis_is_a_replica,
    "OOM": lambda stack: redis_configured(stack, {"maxmemory": "1mb"}),
    "NOREPLICAS": lambda stack: redis_configured(stack, {"min-replicas-to-write": "1"}),
}
RECOVERY_SECONDS = 10.0


@pytest.fixture(scope="module")
async def owner(hasty: System) -> httpx.AsyncClient:
    _, client = await hasty.tenant("redis refuses")
    return client


@pytest.mark.parametrize("name", FAULTS)
async def test_uploads_go_on_quietly_while_redis_refuses_writes(
    hasty: System, owner: httpx.AsyncClient, name: str
) -> None:
    async with watched_project(owner) as watched:
        await watched.upload(3)
        await watched.all_indexed(within=stretched(30))
        async with FAULTS[name](hasty.stack):
            await watched.upload(5)
            readings = await measure(hasty.services.values(), seconds=5)
            await watched.upload(5)
        await watched.all_indexed(within=stretched(RECOVERY_SECONDS))
        watched.assert_told_once_in_order()
    await assert_invariants(hasty.stack)
    print(f"\n{name}", *readings, sep="\n  ")
    for reading in readings:
        assert reading.cpu < 0.2, reading
        assert reading.lines < 5, reading
