"""Fifty documents are being indexed; a process is killed with SIGKILL, or Redis forgets everything. Nothing is lost."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import httpx
import pytest
from redis.asyncio import Redis

from tests.support.documents import note
from tests.support.sse import Transcript, resuming
from tests.support.system import Json, System, create_project, search, settled, upload

COUNT = 50
NOTES = [note(number, size=500 + 400 * (number % 7)) for number in range(COUNT)]

Fault = Callable[[System], Awaitable[None]]


@pytest.fixture(scope="session")
async def owner(system: System) -> httpx.AsyncClient:
    _, client = await system.tenant("faults")
    return client


@pytest.fixture(scope="session")
async def undisturbed(system: System, owner: httpx.AsyncClient) -> dict[str, int]:
    """Chunk count of each document in a run without a fault."""
    documents, _ = await index_fifty(system, owner, fault=_nothing)
    return chunk_counts(documents)


async def index_fifty(system: System, owner: httpx.AsyncClient, fault: Fault) -> tuple[list[Json], Transcript]:
    """Upload fifty notes, let the fault happen when some are indexed, wait until all have come to an end."""
    project = await create_project(owner)
    async with resuming(owner, f"/v1/projects/{project}/events") as live:
        for number, content in enumerate(NOTES):
            await upload(owner, project, f"note-{number:03d}.txt", content)
        await live.until(lambda seen: len(seen.of("document.indexed")) >= 5, within=60)
        await fault(system)
        documents = await settled(owner, project, COUNT, within=90)
        await live.until(lambda seen: len(seen.of("document.indexed")) == COUNT, within=60)
        # Whatever would come twice has time to come.
        await asyncio.sleep(1)
    found = await search(owner, project, "marker000042", mode="keyword")
    assert [item["document_name"] for item in found] == ["note-042.txt"]
    return documents, live


def chunk_counts(documents: list[Json]) -> dict[str, int]:
    return {item["name"]: item["chunk_count"] for item in documents}


def assert_every_event_once_in_order(live: Transcript) -> None:
    sequences = [frame.id for frame in live.durable]
    assert sequences == list(range(1, len(sequences) + 1))
    per_document = Counter((frame.data["document_id"], frame.event) for frame in live.durable)
    assert set(per_document.values()) == {1}
    assert Counter(event for _, event in per_document) == {
        "document.uploaded": COUNT,
        "document.indexing": COUNT,
        "document.indexed": COUNT,
    }


async def _nothing(_: System) -> None:
    return


async def _flush_redis(system: System) -> None:
    redis = Redis.from_url(system.stack.redis.url())
    await redis.flushdb()
    await redis.aclose()


def _kill(service: str) -> Fault:
    async def fault(system: System) -> None:
        system.services[service].kill()
        await system.services[service].wait()
        await system.restart(service)

    return fault


@pytest.mark.parametrize("service", ["indexing", "projects", "notifier"])
async def test_a_killed_service_loses_and_repeats_nothing(
    system: System, owner: httpx.AsyncClient, undisturbed: dict[str, int], service: str
) -> None:
    documents, live = await index_fifty(system, owner, _kill(service))
    assert Counter(item["status"] for item in documents) == {"indexed": COUNT}
    assert chunk_counts(documents) == undisturbed
    assert_every_event_once_in_order(live)


async def test_a_flushed_redis_loses_and_repeats_nothing(
    system: System, owner: httpx.AsyncClient, undisturbed: dict[str, int]
) -> None:
    documents, live = await index_fifty(system, owner, _flush_redis)
    assert Counter(item["status"] for item in documents) == {"indexed": COUNT}
    assert chunk_counts(documents) == undisturbed
    assert_every_event_once_in_order(live)
