"""What searches share is held by each tenant in part only, and work stops with who asked for it."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Generator
from contextlib import AsyncExitStack

import pytest

from services.indexing.search.errors import TooManySearches
from services.indexing.search.fair_share import SearchShares
from tests.support.polling import eventually

FLOOD, OTHER = uuid.uuid4(), uuid.uuid4()


@pytest.fixture
async def shares() -> AsyncIterator[SearchShares]:
    shares = SearchShares()
    yield shares
    await asyncio.to_thread(shares.close)


def endless(steps: list[int]) -> Generator[None, None, None]:
    while True:
        time.sleep(0.0005)
        steps.append(1)
        yield


async def test_a_flood_of_one_tenant_leaves_room_for_another(shares: SearchShares) -> None:
    under_way = 0

    async def search() -> None:
        nonlocal under_way
        async with shares.search(FLOOD), shares.turn(FLOOD):
            under_way += 1
            await asyncio.Event().wait()

    flood = [asyncio.create_task(search()) for _ in range(60)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5), shares.search(OTHER), shares.turn(OTHER), shares.reading(OTHER):
        assert under_way == 1
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_whose_searches_cost_most_rests_while_others_search(shares: SearchShares) -> None:
    took = dict[uuid.UUID, float]()

    async def search(tenant_id: uuid.UUID, seconds: float) -> None:
        began = time.monotonic()
        async with shares.search(tenant_id), shares.turn(tenant_id):
            await asyncio.sleep(seconds)
        took[tenant_id] = time.monotonic() - began

    await asyncio.gather(*(search(FLOOD, 0.05) for _ in range(4)))
    alone = took[FLOOD]
    await asyncio.gather(*(search(FLOOD, 0.05) for _ in range(4)), search(OTHER, 0.02))
    assert took[OTHER] < 0.15
    assert took[FLOOD] > alone + 0.1


async def test_what_a_costly_neighbour_delays_does_not_rest_as_well(shares: SearchShares) -> None:
    async def search(tenant_id: uuid.UUID, seconds: float) -> None:
        async with shares.search(tenant_id), shares.turn(tenant_id):
            await asyncio.sleep(seconds)

    flood = [asyncio.create_task(search(FLOOD, 0.2)) for _ in range(3)]
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await asyncio.gather(*(search(OTHER, 0.02) for _ in range(12)))
    assert time.monotonic() - began < 12 * 0.02 * 1.7
    await asyncio.gather(*flood)


async def test_what_waits_of_one_tenant_is_bounded_and_another_is_not_refused(shares: SearchShares) -> None:
    async def search() -> None:
        async with shares.search(FLOOD):
            await asyncio.Event().wait()

    flood = [asyncio.create_task(search()) for _ in range(200)]
    refused, _ = await asyncio.wait(flood, timeout=0.1)
    assert 0 < len(refused) < 200
    assert all(isinstance(task.exception(), TooManySearches) for task in refused)
    async with shares.search(OTHER):
        pass
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(5))
        for _ in range(4):
            await stack.enter_async_context(shares.search(FLOOD))


async def test_endless_work_of_one_tenant_takes_turns_and_stops_when_its_caller_is_gone(shares: SearchShares) -> None:
    steps = list[int]()

    def little() -> Generator[None, None, str]:
        yield
        return "done"

    async with asyncio.timeout(30):
        working = [asyncio.create_task(shares.compute(FLOOD, endless(steps))) for _ in range(20)]
        await eventually(lambda: asyncio.sleep(0, len(steps) > 20))
        before = len(steps)
        assert await shares.compute(OTHER, little()) == "done"
        assert len(steps) - before < 20
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    await shares.compute(OTHER, little())
    stopped = len(steps)
    await shares.compute(OTHER, little())
    assert len(steps) == stopped


async def test_an_error_of_the_work_is_its_callers(shares: SearchShares) -> None:
    def failing() -> Generator[None, None, str]:
        yield
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await shares.compute(OTHER, failing())
