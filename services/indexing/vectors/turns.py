"""Places for a bounded number at once, given out in turn by who asks: many requests of one never delay another's."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Turns:
    def __init__(self, places: int) -> None:
        self._free = places
        # Who waits, next first; each with its own queue.
        self._queues: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, caller: Hashable) -> AsyncIterator[None]:
        """Inside the block a place is held. A caller's own requests keep their order."""
        await self._enter(caller)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, caller: Hashable) -> None:
        if self._free:
            self._free -= 1
            return
        place = asyncio.get_running_loop().create_future()
        self._queues.setdefault(caller, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave()  # given in the same moment; nobody else may miss it
            raise

    def _leave(self) -> None:
        while self._queues:
            caller, queue = self._queues.popitem(last=False)
            place = queue.popleft()
            if queue:
                self._queues[caller] = queue
            if not place.done():
                place.set_result(None)
                return
        self._free += 1
