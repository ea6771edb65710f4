"""What is measured, each with what a user would notice of it."""

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import httpx

from tests.bench import processor_time
from tests.support.documents import note
from tests.support.sse import Transcript, listening
from tests.support.system import System, create_project, settled, upload
from tests.support.system import search as search_for

NOTES = 100
DOCUMENTS = 120


async def upload_to_searchable(system: System, client: httpx.AsyncClient) -> None:
    """A 2 KB note at a time: from the first byte sent to the frame that says it can be found."""
    project = await create_project(client, "upload to searchable")
    async with listening(client, f"/v1/projects/{project}/events") as live:
        times = []
        with processor_time.measured(system) as seconds:
            for number in range(NOTES + 5):
                began = time.perf_counter()
                document_id = await upload(client, project, f"note-{number}.txt", note(number))
                await live.until(_has_indexed(document_id))
                times.append(time.perf_counter() - began)
    tell(f"upload of a 2 KB note to document.indexed over {NOTES}", times[5:])
    print(f"  processor time each: {processor_time.each(seconds, NOTES + 5)}")


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
    """Resident memory of each service and server with its children."""
    for name, family in processor_time.families(system).items():
        print(f"memory of {name}: {sum(member.memory_info().rss for member in family) / 2**20:.0f} MiB")


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
