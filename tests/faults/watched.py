"""A project with a patient client on its stream: what was uploaded, and what the client was told of it."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from tests.support.documents import note
from tests.support.sse import Transcript, resuming
from tests.support.system import Json, create_project, settled, upload

STAGES = ("document.uploaded", "document.indexing", "document.indexed")


@dataclass(slots=True)
class Watched:
    """One project. `documents` are the ids that were answered 201."""

    client: httpx.AsyncClient
    project: str
    live: Transcript
    documents: list[str] = field(default_factory=list)

    async def upload(self, count: int, *, size: int = 600) -> None:
        """Upload notes, each of which must be accepted."""
        for _ in range(count):
            number = len(self.documents)
            self.documents.append(
                await upload(self.client, self.project, f"note-{number:04d}.txt", note(number, size=size))
            )

    async def all_indexed(self, *, within: float) -> list[Json]:
        """Wait until everything uploaded is indexed and the client has been told so."""
        documents = await settled(self.client, self.project, len(self.documents), within=within)
        assert Counter(item["status"] for item in documents) == {"indexed": len(self.documents)}
        await self.live.until(lambda seen: len(seen.of("document.indexed")) >= len(self.documents), within=within)
        return documents

    def assert_told_once_in_order(self) -> None:
        """The transcript has no gap, and each document went through its stages once."""
        assert [frame.id for frame in self.live.durable] == list(range(1, len(self.live.durable) + 1))
        told = [(frame.data["document_id"], frame.event) for frame in self.live.durable]
        expected = [(document, stage) for document in self.documents for stage in STAGES]
        assert Counter(told) == Counter(expected)
        for document in self.documents:
            assert tuple(event for about, event in told if about == document) == STAGES


@asynccontextmanager
async def watched_project(client: httpx.AsyncClient) -> AsyncIterator[Watched]:
    """A new project with a client that comes back whenever its stream ends."""
    project = await create_project(client)
    async with resuming(client, f"/v1/projects/{project}/events") as live:
        yield Watched(client, project, live)
