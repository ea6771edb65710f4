"""A project with a patient client on its stream: what was uploaded, and what the client was told of it."""

from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from infra.local.stack import Stack
from tests.faults.invariants import checker
from tests.faults.meters import stretched
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

    def assert_told_once_in_order(self, *, late: bool = False, besides: Collection[str] = ()) -> None:
        """The transcript has no gap, and each document went through its stages once.

        Args:
            besides: documents of which anything may be told.
            late: events may have overtaken each other; that work had begun is no news once it is known to be done.
        """
        assert [frame.id for frame in self.live.durable] == list(range(1, len(self.live.durable) + 1))
        told: dict[str, list[str]] = {}
        for frame in self.live.durable:
            if frame.data["document_id"] not in besides:
                told.setdefault(frame.data["document_id"], []).append(frame.event)
        assert told.keys() == set(self.documents)
        for document, events in told.items():
            if late:
                assert set(STAGES) - {"document.indexing"} <= set(events) <= set(STAGES), (document, events)
                assert len(events) == len(set(events)), (document, events)
            else:
                assert events == list(STAGES), (document, events)


@asynccontextmanager
async def watched_project(client: httpx.AsyncClient) -> AsyncIterator[Watched]:
    """A new project with a client that comes back whenever its stream ends."""
    project = await create_project(client)
    async with resuming(client, f"/v1/projects/{project}/events") as live:
        yield Watched(client, project, live)


async def assert_invariants(stack: Stack, *, dead_letters: Collection[object] = (), within: float = 20.0) -> None:
    """Nothing moves any more, and every invariant holds, over all that was ever done to the stack."""
    async with checker(stack) as check:
        report = await check.after(expected_dead_letters=dead_letters, within=stretched(within))
    assert not report.violations, f"{report}\n\n{_last_warnings(stack)}"


def _last_warnings(stack: Stack, count: int = 40) -> str:
    """Of the services' log, for whoever looks into a failure: its folder is gone by then."""
    lines = (stack.home.folder / "system.log").read_text(encoding="utf-8").splitlines()
    usual = ('"level":"info"', '"level":"debug"')
    return "\n".join([line for line in lines if not any(level in line for level in usual)][-count:])
