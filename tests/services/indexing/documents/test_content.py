"""A document's bytes on disk: there for as long as they are read, and gone whatever ends the reading."""

import asyncio
import uuid
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from services.indexing.documents import content
from services.indexing.documents.content import ContentSource
from services.indexing.jobs.leases import Lease


def lease() -> Lease:
    return Lease(
        tenant_id=uuid.uuid4(), job_id=uuid.uuid4(), project_id=uuid.uuid4(), document_id=uuid.uuid4(), version=1,
        token=1, attempts=1, deferrals=0, announced=True, cancel_requested=False, chunk_count=None, traceparent=None,
        correlation_id=None, uploaded_at=None, taken_over_in=None, total=0, valid_until=float("inf"),
    )  # fmt: skip


class Tokens:
    """Never has one: the download waits for as long as the test likes."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def token(self, audience: str, tenant_id: uuid.UUID) -> str:
        self.asked.set()
        await asyncio.Event().wait()
        return ""


async def test_nothing_stays_open_when_the_work_is_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def remembering(path: Path, job_id: str) -> object:
        opened.append(content_open(path, job_id))
        return opened[-1]

    content_open = content._open_alone
    monkeypatch.setattr(content, "_open_alone", remembering)
    for steps in range(8):
        tokens = Tokens()
        source = ContentSource("http://127.0.0.1:1", cast(Any, tokens), cast(aiohttp.ClientSession, None), tmp_path)

        async def fetch(source: ContentSource = source) -> None:
            async with source.fetched(lease()):
                pass

        # Cancelled wherever it is after so many turns of the loop: before, while and after the file is opened.
        task = asyncio.create_task(fetch())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert opened
    assert all(file.closed for file in opened)
    assert list(tmp_path.iterdir()) == []
