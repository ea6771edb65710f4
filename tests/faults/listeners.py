"""Clients of Server-Sent Events that hang up all the time and come back with Last-Event-ID, and remember everything."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import httpx

from tests.faults.commands import Tenant
from tests.faults.ledger import Ledger
from tests.support.sse import Frame, apart, listening

_SHORTEST, _LONGEST = 0.5, 4.0
_LOOK_SECONDS = 0.05
_PAUSE_SECONDS = 0.2


@dataclass(slots=True)
class Listener:
    """What one client has heard of one feed: a project's, or (the tenant's id) that of all its projects.

    `since` is where it began: what came before was not asked for.
    """

    tenant_id: uuid.UUID
    feed_id: uuid.UUID
    since: int
    frames: list[Frame] = field(default_factory=list)
    connections: int = 0
    refused: int = 0

    @property
    def last_id(self) -> int:
        return next((frame.id for frame in reversed(self.frames) if frame.id is not None), self.since)

    @property
    def path(self) -> str:
        return "/v1/events" if self.feed_id == self.tenant_id else f"/v1/projects/{self.feed_id}/events"

    async def listen(self, client: httpx.AsyncClient, chance: random.Random) -> None:
        """Until cancelled."""
        while True:
            try:
                async with listening(client, self.path, last_event_id=self.last_id) as part:
                    self.connections += 1
                    until = asyncio.get_running_loop().time() + chance.uniform(_SHORTEST, _LONGEST)
                    taken = 0
                    while not part.closed and asyncio.get_running_loop().time() < until:
                        await asyncio.sleep(_LOOK_SECONDS)
                        taken = self._take(part.frames, taken)
                self._take(part.frames, taken)
            except httpx.HTTPError:
                self.refused += 1
                await asyncio.sleep(_PAUSE_SECONDS)

    def _take(self, frames: Sequence[Frame], taken: int) -> int:
        self.frames += frames[taken:]
        return len(frames)


class Listeners:
    """One listener per tenant, and per project that `follow` is told of."""

    def __init__(self, stack: AsyncExitStack, seed: int | str) -> None:
        self._stack = stack
        self._seed = seed
        self.all: list[Listener] = []

    async def follow(self, person: Tenant, feed_id: uuid.UUID, since: int = 0) -> Listener:
        listener = Listener(person.id, feed_id, since)
        self.all.append(listener)
        chance = random.Random(f"{self._seed}/{len(self.all)}")
        client = await self._stack.enter_async_context(apart(person.client))
        await self._stack.enter_async_context(_beside(listener.listen(client, chance)))
        return listener

    async def follow_first_projects(self, people: Sequence[Tenant], ledger: Ledger) -> None:
        """One project of each tenant, as soon as the ledger has one. Ends when there is one of each."""
        waiting = {person.id: person for person in people}
        while waiting:
            for project in list(ledger.projects.values()):
                if person := waiting.pop(project.tenant_id, None):
                    await self.follow(person, project.id)
            await asyncio.sleep(_LOOK_SECONDS)


@asynccontextmanager
async def listeners(
    people: Sequence[Tenant], *, seed: int | str, since: Mapping[uuid.UUID, int] | None = None
) -> AsyncIterator[Listeners]:
    """Listen to each tenant's feed while the block runs, from the number in `since` or from its beginning."""
    async with AsyncExitStack() as stack:
        group = Listeners(stack, seed)
        for person in people:
            await group.follow(person, person.id, (since or {}).get(person.id, 0))
        yield group


@asynccontextmanager
async def _beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task: asyncio.Task[None] = asyncio.create_task(work)
    try:
        yield
    finally:
        # Until it ends: a cancellation that meets the end of a connection is taken for that of its reader.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.5)
