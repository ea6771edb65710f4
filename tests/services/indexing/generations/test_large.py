"""A larger project is indexed again while it is searched, its worker killed in the middle; then it loses all vectors.

`QUARRY_TEST_CHUNKS` says how large, and without it this is skipped; 20,000 take some minutes. Prints how long each part
took.
"""

import asyncio
import os
import random
import shutil
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from infra.operator import vectors as command
from services.indexing.documents import repository as documents
from services.indexing.documents.models import Document
from services.indexing.jobs import repository as jobs
from tests.services.indexing.generations.conftest import MODES, QUERIES, Answers, Project
from tests.services.indexing.generations.test_killed import process
from tests.services.indexing.uploads import Library
from tests.support.identity import IdentityDouble
from tests.support.polling import eventually

Environment = dict[str, str]

CHUNKS = int(os.environ.get("QUARRY_TEST_CHUNKS", "2000"))
PER_DOCUMENT = 100
SEARCHERS = 3
WITHIN = CHUNKS / 10 + 60
_WORDS = (
    *("granite", "harbour", "wall", "invoice", "tenant", "storm", "november", "barn", "roof", "winter", "railway"),
    *("lantern", "orchard", "bridge", "ledger", "copper", "valley", "engine", "silver", "meadow", "garden"),
)
pytestmark = [
    pytest.mark.usefixtures("quiet_queue"),
    pytest.mark.timeout(3_600),
    pytest.mark.skipif("QUARRY_TEST_CHUNKS" not in os.environ, reason="QUARRY_TEST_CHUNKS says how large"),
]


async def plant(library: Library) -> None:
    """Documents as they are once they were indexed, without points."""
    chance = random.Random(7)
    await library.generation()
    for number in range(CHUNKS // PER_DOCUMENT):
        document_id = uuid.UUID(int=chance.getrandbits(128), version=4)
        key: dict[str, Any] = {"project_id": library.project_id, "document_id": document_id, "version": 1}
        rows = [
            {
                **key, "chunk_index": index, "start_offset": 0, "end_offset": 9, "page": None,
                "text": f"Note {number} {index} tells of {' '.join(chance.choices(_WORDS, k=12))}.",
            }
            for index in range(PER_DOCUMENT)
        ]  # fmt: skip
        async with library.database.tenant(library.tenant_id) as session:
            facts: dict[str, Any] = {
                "name": f"{number}.txt",
                "content_type": "text/plain",
                "metadata": {},
                "sequence": 1,
            }
            await documents.upsert_from_event(session, **key, **facts, created_at=datetime.now(UTC))
            await documents.add_chunks(session, rows)
            await jobs.add(session, **key, lane="bulk", state="indexed", chunk_count=PER_DOCUMENT)
            await session.execute(update(Document).where(Document.document_id == document_id).values(live_version=1))


@asynccontextmanager
async def searched(project: Project, expected: Answers) -> AsyncIterator[list[float]]:
    """Inside the block the project is searched all the time; every answer has to be the expected one."""
    stop, times = asyncio.Event(), list[float]()

    async def search(seed: int) -> None:
        chance = random.Random(seed)
        while not stop.is_set():
            query, mode = chance.choice(QUERIES), chance.choice(MODES)
            began = time.perf_counter()
            items = await project.search(query, mode)
            times.append(time.perf_counter() - began)
            found = [(item["document_id"], item["chunk_index"], item["text"]) for item in items]
            assert found == expected[query, mode], (query, mode)
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        for seed in range(SEARCHERS):
            group.create_task(search(seed))
        yield times
        stop.set()


def tell(what: str, began: float, times: list[float] | None = None) -> None:
    figures = (
        ""
        if not times
        else (
            f"; {len(times)} searches, p50 {statistics.median(times) * 1000:.0f} ms, "
            f"p95 {statistics.quantiles(times, n=20)[-1] * 1000:.0f} ms"
        )
    )
    print(f"{what} of {CHUNKS} chunks: {time.perf_counter() - began:.1f} s{figures}")


async def test_a_larger_project_is_indexed_again_and_brought_back(
    environment: Environment,
    library: Library,
    tokens: IdentityDouble,
    folders: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = folders("large")
    own = {**environment, "QUARRY_INDEXING_DATA_DIR": str(folder / "data")}
    socket = str(folder / "vectors.sock")
    searching = {**own, "QUARRY_INDEXING_ROLES": "http,events", "QUARRY_INDEXING_VECTORS_LISTEN": socket}
    working = {**own, "QUARRY_INDEXING_ROLES": "jobs", "QUARRY_INDEXING_VECTORS_SOCKET": socket}
    for variable, value in environment.items():
        if "SYSTEM_DATABASE_URL" in variable:
            monkeypatch.setenv(variable, value)

    async def check() -> None:
        scope = ["--project", str(library.project_id), "--wait", str(WITHIN)]
        assert await asyncio.to_thread(command.main, ["check", *scope]) == 0

    await plant(library)
    async with process(searching, folder / "a.sock") as (_, client):
        project = Project(client, tokens, library)
        async with process(working, folder / "b.sock") as (worker, _):
            began = time.perf_counter()
            await check()
            tell("writing all points again", began)
            before = await project.answers()
            assert all(len(found) == 20 for (_, mode), found in before.items() if mode != "keyword")
            began = time.perf_counter()
            async with searched(project, before) as times:
                await asyncio.sleep(5)
            tell("searching alone", began, times)
            began = time.perf_counter()
            async with searched(project, before) as times:
                await project.reindex()

                async def half() -> bool:
                    return (await library.generations())[3].done >= CHUNKS // 2

                await eventually(half, within=WITHIN, every=0.1)
                worker.kill()
                await worker.wait()
                assert await project.states() == {3: "building", 2: "active"}
                async with process(working, folder / "c.sock"):
                    await project.becomes({3: "active", 2: "kept"}, within=WITHIN)
                    await asyncio.sleep(2)
            tell("re-index, its worker killed in the middle,", began, times)
        async with process(working, folder / "d.sock"):
            began = time.perf_counter()
            async with searched(project, before) as times:
                await project.reindex("/rollback")
                await project.becomes({2: "active", 3: "kept"}, within=WITHIN)
            tell("rollback", began, times)
    await asyncio.to_thread(shutil.rmtree, folder / "data" / "vectors")
    async with (
        process(searching, folder / "e.sock") as (_, client),
        process(working, folder / "f.sock"),
    ):
        project = Project(client, tokens, library, project.user_id)
        assert not any((await project.answers()).values())
        began = time.perf_counter()
        await check()
        tell("the way back after losing everything,", began)
        assert await project.answers() == before
