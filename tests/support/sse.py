"""A client of Server-Sent Events that remembers every frame it got."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from tests.support.polling import eventually


@dataclass(frozen=True, slots=True)
class Frame:
    """One dispatched event; `id` is None for ephemeral ones."""

    event: str
    data: dict[str, Any]
    id: int | None


@dataclass(slots=True)
class Transcript:
    """What one connection has received so far."""

    frames: list[Frame] = field(default_factory=list)
    comments: int = 0
    closed: bool = False

    def of(self, event: str) -> list[Frame]:
        return [frame for frame in self.frames if frame.event == event]

    @property
    def durable(self) -> list[Frame]:
        return [frame for frame in self.frames if frame.id is not None]

    @property
    def last_id(self) -> int | None:
        return next((frame.id for frame in reversed(self.frames) if frame.id is not None), None)

    def events_of(self, document_id: str) -> list[str]:
        """Types of one document's events in order of arrival; runs of progress ticks count once."""
        types: list[str] = []
        for frame in self.frames:
            if frame.data.get("document_id") == document_id and types[-1:] != [frame.event]:
                types.append(frame.event)
        return types

    async def until(self, condition: Callable[["Transcript"], object], *, within: float = 30.0) -> None:
        async def holds() -> bool:
            return bool(condition(self))

        await eventually(holds, within=within, every=0.002)


@asynccontextmanager
async def listening(
    client: httpx.AsyncClient, path: str, *, last_event_id: int | None = None
) -> AsyncIterator[Transcript]:
    """Open a stream and read it beside the block; the block begins when the stream is open."""
    transcript = Transcript()
    headers = {"Accept": "text/event-stream"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = str(last_event_id)
    async with client.stream("GET", path, headers=headers, timeout=httpx.Timeout(10, read=60)) as answer:
        if answer.status_code != 200:
            await answer.aread()
        answer.raise_for_status()
        reading = asyncio.create_task(_read(answer, transcript))
        try:
            yield transcript
        finally:
            await _ended(reading)


def apart(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client like this one with connections of its own, for whoever is cancelled while he asks: a request that comes
    upon idle connections closes them first, and when it is cancelled at that, httpx forgets the rest of them open."""
    return httpx.AsyncClient(base_url=client.base_url, headers=client.headers, timeout=client.timeout)


@asynccontextmanager
async def resuming(client: httpx.AsyncClient, path: str) -> AsyncIterator[Transcript]:
    """Like `listening`, as a patient client does it: whenever the stream ends it comes back with Last-Event-ID."""
    whole = Transcript()
    opened = asyncio.Event()

    async def keep_listening(own: httpx.AsyncClient) -> None:
        while True:
            # Before the first durable event, everything from the beginning counts as missed.
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(whole.last_id or 0)}
            try:
                async with own.stream("GET", path, headers=headers, timeout=httpx.Timeout(10, read=60)) as answer:
                    if answer.status_code == 200:
                        opened.set()
                        await _read(answer, whole)
            except httpx.HTTPError:
                whole.closed = True
            await asyncio.sleep(0.1)

    async with apart(client) as own:
        listening_task = asyncio.create_task(keep_listening(own))
        try:
            async with asyncio.timeout(30):
                await opened.wait()
            yield whole
        finally:
            await _ended(listening_task)


async def _ended(task: "asyncio.Task[None]") -> None:
    """Cancel a task; its error is raised, its cancellation is not, and that of the caller is not lost."""
    task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(outcome, Exception):
        raise outcome


async def _read(answer: httpx.Response, transcript: Transcript) -> None:
    fields: dict[str, str] = {}
    try:
        async for line in answer.aiter_lines():
            if line.startswith(":"):
                transcript.comments += 1
            elif line:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
            elif "data" in fields:
                identifier = int(fields["id"]) if "id" in fields else None
                frame = Frame(fields.get("event", "message"), orjson.loads(fields["data"]), identifier)
                transcript.frames.append(frame)
                fields = {}
            else:
                fields = {}
    except httpx.HTTPError:
        # The server or a fault cut the connection: that is for the test to see.
        transcript.closed = True
    else:
        transcript.closed = True
