"""What is measured, each with what a user would notice of it."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import httpx
import psutil

from tests.support.documents import note
from tests.support.sse import Transcript, listening
from tests.support.system import System, create_project, settled, upload
from tests.support.system import search as search_for

NOTES = 100
REQUESTS = 500
DOCUMENTS = 120


async def upload_to_searchable(system: System, client: httpx.AsyncClient) -> None:
    """A 2 KB note at a time: from the first byte sent to the frame that says it can be found."""
    project = await create_project(client, "upload to searchable")
    async with listening(client, f"/v1/projects/{project}/events") as live:
        times = []
        before = processor_time(system)
        for number in range(NOTES + 5):
            began = time.perf_counter()
            document_id = await upload(client, project, f"note-{number}.txt", note(number))
            await live.until(_has_indexed(document_id))
            times.append(time.perf_counter() - began)
    tell(f"upload of a 2 KB note to document.indexed over {NOTES}", times[5:])
    tell_processor_time(system, before, NOTES + 5)


async def crud(system: System, client: httpx.AsyncClient) -> None:
    """Reading and writing one project, one request after the other, and then with eight clients at once."""
    project = await create_project(client, "crud")
    path = f"/v1/projects/{project}"

    async def read() -> httpx.Response:
        return await client.get(path)

    async def write() -> httpx.Response:
        return await client.post("/v1/projects", json={"name": "another"})

    before = processor_time(system)
    tell(f"GET a project over {REQUESTS}", await _timed(read, REQUESTS))
    tell_processor_time(system, before, REQUESTS)
    tell(f"POST a project over {REQUESTS // 5}", await _timed(write, REQUESTS // 5))
    began = time.perf_counter()
    batches = await asyncio.gather(*(_timed(read, REQUESTS // 4) for _ in range(8)))
    rate = 8 * (REQUESTS // 4) / (time.perf_counter() - began)
    tell(f"GET a project, 8 clients at once, {rate:.0f} requests/s", [took for batch in batches for took in batch])


async def search(_: System, client: httpx.AsyncClient) -> None:
    """Searching a project of a few hundred chunks."""
    project = await create_project(client, "search")
    for number in range(60):
        await upload(client, project, f"note-{number}.txt", note(number, size=6000))
    await settled(client, project, 60, within=120)
    for mode in ("keyword", "semantic", "hybrid"):

        async def ask(mode: str = mode) -> object:
            return await search_for(client, project, "how was the railway kept in repair", mode)

        tell(f"{mode} search over 200", await _timed(ask, 200))


async def indexing(_: System, client: httpx.AsyncClient) -> None:
    """Many documents at once: chunks indexed per minute."""
    project = await create_project(client, "indexing")
    began = time.perf_counter()
    for number in range(DOCUMENTS):
        await upload(client, project, f"note-{number}.txt", note(number, size=8000))
    documents = await settled(client, project, DOCUMENTS, within=300)
    took = time.perf_counter() - began
    chunks = sum(item["chunk_count"] for item in documents)
    print(f"indexing: {chunks} chunks of {DOCUMENTS} documents in {took:.1f} s, {chunks / took * 60:.0f} chunks/min")


def memory(system: System) -> None:
    """Resident memory of each service with its children."""
    for name, family in _families(system).items():
        print(f"memory of {name}: {sum(member.memory_info().rss for member in family) / 2**20:.0f} MiB")


def _families(system: System) -> dict[str, list[psutil.Process]]:
    """The processes of each service: itself and its children."""
    running = {name: psutil.Process(service.pid) for name, service in system.services.items() if service.pid}
    return {name: [process, *process.children(recursive=True)] for name, process in running.items()}


def processor_time(system: System) -> dict[str, float]:
    """Seconds each service has computed so far: unlike the clock on the wall, not stretched by other work."""
    return {
        name: sum(times.user + times.system for times in (member.cpu_times() for member in family))
        for name, family in _families(system).items()
    }


def tell_processor_time(system: System, before: dict[str, float], count: int) -> None:
    spent = {name: (after - before[name]) / count * 1000 for name, after in processor_time(system).items()}
    print("  processor time each: " + ", ".join(f"{name} {took:.1f}" for name, took in spent.items()))


def _has_indexed(document_id: str) -> Callable[[Transcript], bool]:
    return lambda seen: any(frame.data.get("document_id") == document_id for frame in seen.of("document.indexed"))


async def _timed(action: Callable[[], Awaitable[object]], count: int) -> list[float]:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await action()
        times.append(time.perf_counter() - began)
    return times


def tell(what: str, seconds: Sequence[float]) -> None:
    cuts = statistics.quantiles(seconds, n=100)
    print(f"{what}: p50 {cuts[49] * 1000:.1f}, p95 {cuts[94] * 1000:.1f}, max {max(seconds) * 1000:.1f}")
