"""The process ends, politely or not, with work under way."""

import asyncio
import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from services.indexing.documents.models import Chunk
from services.indexing.main import create_app
from services.indexing.vectors.store import EmbeddedStore
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.uploads import Library
from tests.support.polling import eventually
from tests.support.serving import in_process

Environment = dict[str, str]
ROOT = Path(__file__).resolve().parents[4]
pytestmark = pytest.mark.usefixtures("quiet_queue")


async def test_an_orderly_stop_gives_jobs_back_at_once(environment: Environment, library: Library) -> None:
    document_id = uuid.uuid4()
    gate = library.projects.held[document_id] = asyncio.Event()
    await library.upload("text", document_id=document_id)
    async with in_process(create_app, {**environment, "QUARRY_INDEXING_JOB_LEASE_SECONDS": "60"}):
        await ends(library, document_id, "extracting")
    gate.set()
    job = await library.job(document_id)
    assert (job.state, job.attempts, job.lease_owner) == ("queued", 0, None)


@asynccontextmanager
async def process(environment: Environment, port_file: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The service as a process; killed at the end if it has not been before."""
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "--factory", "services.indexing.main:create_app"),
        *("--uds", str(port_file), "--no-access-log", "--log-level", "warning"),
        cwd=ROOT,
        env={**{name: value for name, value in os.environ.items() if not name.startswith("QUARRY_")}, **environment},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.send_signal(signal.SIGKILL)
        await started.wait()


async def test_a_killed_process_loses_nothing_and_repeats_nothing(
    environment: Environment, library: Library, tmp_path: Path
) -> None:
    """Leases are long here: the restarted process sees for itself that their owner is dead."""
    data = tmp_path / "data"
    own = {**environment, "QUARRY_INDEXING_DATA_DIR": str(data), "QUARRY_INDEXING_JOB_LEASE_SECONDS": "120"}
    documents = [
        await library.upload("\n\n".join(f"Paragraph {line} of document {number}. " * 15 for line in range(4)))
        for number in range(10)
    ]

    async def done() -> int:
        states = Counter([await library.state(document_id) for document_id in documents])
        return states["indexed"]

    async def some_done() -> bool:
        return await done() >= 3

    async def all_done() -> bool:
        return await done() == len(documents)

    async with process(own, tmp_path / "first"):
        await eventually(some_done, within=40)
    assert await done() < len(documents)
    async with process(own, tmp_path / "second"):
        await eventually(all_done, within=60)

    for document_id in documents:
        assert await library.events(document_id) == [("started", 1), ("completed", 2)]
    async with library.database.tenant(library.tenant_id) as session:
        chunks = Counter(await session.scalars(select(Chunk.document_id)))
    assert len(chunks) == len(documents)
    assert len(set(chunks.values())) == 1
    store = EmbeddedStore(data / "vectors")
    await store.start()
    try:
        tally = {entry.document_id: entry.points for entry in await store.tally()}
    finally:
        await store.stop()
    assert tally == chunks
    assert not await asyncio.to_thread(lambda: list((data / "incoming").iterdir()))
