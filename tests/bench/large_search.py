"""Searching beside many: 100,000 chunks in the projects of 50 tenants, each search in another of them."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Final

import httpx

from tests.bench import made_chunks, processor_time
from tests.bench.measurements import tell
from tests.support.documents import note
from tests.support.system import System, create_project, search, settled, upload

TENANTS: Final = 50
CHUNKS: Final = 100_000
SEARCHES: Final = 400
_AT_ONCE: Final = 4
_SUBJECTS: Final = ("harbour", "orchard", "glacier", "railway", "library", "furnace", "meadow", "satellite")


async def large_search(system: System, _: httpx.AsyncClient) -> None:
    """By words, by meaning and by both, `_AT_ONCE` at a time; then one search again and again."""
    projects = [await _filled(system, f"tenant-{number}") for number in range(TENANTS)]
    numbers = itertools.count()

    def searching(mode: str) -> Callable[[], Awaitable[object]]:
        async def one() -> object:
            number = next(numbers)
            client, project = projects[number % TENANTS]
            subject = _SUBJECTS[number % len(_SUBJECTS)]
            return await search(client, project, f"how was the {subject} kept in repair, as note {number} tells", mode)

        return one

    def repeated(mode: str) -> Callable[[], Awaitable[object]]:
        client, project = projects[0]
        return lambda: search(client, project, "how was the railway kept in repair", mode)

    for mode in ("keyword", "semantic", "hybrid"):
        await _measured(system, f"{mode} search, {CHUNKS} chunks of {TENANTS} tenants", searching(mode), _AT_ONCE)
    for mode in ("keyword", "hybrid"):
        await _measured(system, f"  the same {mode} search again, one at a time", repeated(mode), 1)


async def _filled(system: System, name: str) -> tuple[httpx.AsyncClient, str]:
    _, client = await system.tenant(name)
    project = await create_project(client, name)
    # A project has a generation of points from its first document on.
    await upload(client, project, "note.txt", note(0))
    await settled(client, project, 1, within=60)
    await made_chunks.fill(system, project, CHUNKS // TENANTS)
    return client, project


async def _measured(system: System, what: str, action: Callable[[], Awaitable[object]], at_once: int) -> None:
    async def timed(count: int) -> list[float]:
        times = []
        for _ in range(count):
            began = time.perf_counter()
            await action()
            times.append(time.perf_counter() - began)
        return times

    await timed(TENANTS)
    with processor_time.measured(system) as seconds:
        batches = await asyncio.gather(*(timed(SEARCHES // at_once) for _ in range(at_once)))
    tell(f"{what} over {SEARCHES}", [took for batch in batches for took in batch])
    print(f"  processor time each: {processor_time.each(seconds, SEARCHES)}")
