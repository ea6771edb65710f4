"""A document's bytes on disk: there for as long as they are read, and gone whatever ends the reading."""

import asyncio
import threading
import uuid
from pathlib import Path
from typing import Any, BinaryIO, cast

import aiohttp
import pytest

from services.indexing.documents import content
from services.indexing.documents.content import ContentSource
from services.indexing.jobs.leases import Lease


def lease() -> Lease:
    return Lease(
        tenant_id=uuid.uuid4(), job_id=uuid.uuid4(), project_id=uuid.uuid4(), document_id=uuid.uuid4(), version=1,
        token=1, attempts=1, deferrals=0, announced=True, cancel_requested=False, long_running=False, chunk_count=None,
        traceparent=None, correlation_id=None, uploaded_at=None, taken_over_in=None, total=0, valid_until=float("inf"),
    )  # fmt: skip


class Tokens:
    """Never has one: the download waits for as long as the test likes."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def token(self, audience: str, tenant_id: uuid.UUID) -> str:
        self.asked.set()
        await asyncio.Event().wait()
        return ""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[BinaryIO]:
    """The files that were opened."""
    files: list[BinaryIO] = []

    def remembering(path: Path, job_id: str) -> BinaryIO:
        files.append(content_open(path, job_id))
        return files[-1]

    content_open = content._open_alone
    monkeypatch.setattr(content, "_open_alone", remembering)
    return files


async def fetch(tokens: Tokens, folder: Path) -> None:
    source = ContentSource("http://127.0.0.1:1", cast(Any, tokens), cast(aiohttp.ClientSession, None), folder)
    async with source.fetched(lease()):
        pass


async def test_nothing_stays_open_when_the_work_is_cancelled(tmp_path: Path, opened: list[BinaryIO]) -> None:
    for steps in range(8):
        # Cancelled wherever it is after so many turns of the loop: before, while and after the file is opened.
        task = asyncio.create_task(fetch(Tokens(), tmp_path))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert opened
    assert all(file.closed for file in opened)
    assert list(tmp_path.iterdir()) == []


async def test_nothing_stays_when_it_is_cancelled_again_and_no_thread_is_free(
    tmp_path: Path, opened: list[BinaryIO]
) -> None:
    loop, free = asyncio.get_running_loop(), threading.Event()
    busy = [loop.run_in_executor(None, free.wait) for _ in range(64)]
    try:
        tokens = Tokens()
        task = asyncio.create_task(fetch(tokens, tmp_path))
        await tokens.asked.wait()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        assert [file.closed for file in opened] == [True]
        assert list(tmp_path.iterdir()) == []
    finally:
        free.set()
        await asyncio.gather(*busy)
