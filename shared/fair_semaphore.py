"""A bounded number of places, given out in turn by caller: many requests of one never delay another's.

    slots = FairSemaphore(4, each=3)
    async with slots.turn(tenant_id):
        ...

Guarantees: a caller holds at most `each` places, so when that is fewer than all of them, no single caller can hold them
all. A freed place goes to the waiting caller that holds the fewest, among equals to the one that has waited longest for
a turn. One caller's requests keep their order. Cancelling while waiting loses no place. The number of waiting requests
is bounded, per caller and in all; beyond it a caller is refused at once.
Fails by: `Unavailable` when too many wait.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Final

from shared.errors import Unavailable

WAITING: Final = 1024
WAITING_IN_ALL: Final = 16 * WAITING


class FairSemaphore:
    """Args:
    each: places of one caller at once; all of them unless given.
    waiting: of one caller.
    """

    def __init__(
        self, places: int, *, each: int | None = None, waiting: int = WAITING, waiting_in_all: int = WAITING_IN_ALL
    ) -> None:
        self._free = places
        self._each = places if each is None else each
        self._most_waiting = waiting
        self._most_waiting_in_all = waiting_in_all
        self._waiting = 0
        self._held: Counter[Hashable] = Counter()
        # The callers that wait, next first; each with its own queue.
        self._queues: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @classmethod
    def with_one_to_spare(cls, places: int) -> "FairSemaphore":
        """No caller can hold all places, unless there is only one."""
        return cls(places, each=max(1, places - 1))

    @asynccontextmanager
    async def turn(self, caller: Hashable) -> AsyncIterator[None]:
        """Hold a place for the length of the block.

        Raises:
            Unavailable: too many requests wait for one.
        """
        await self.enter(caller)
        try:
            yield
        finally:
            self.leave(caller)

    def has_place(self, caller: Hashable) -> bool:
        """Whether `enter` would not wait."""
        return self._may(caller)

    async def enter(self, caller: Hashable) -> None:
        """As `turn`, for a place that is returned elsewhere, with `leave`."""
        if self._may(caller):
            self._take(caller)
            return
        if self._waiting >= self._most_waiting_in_all or len(self._queues.get(caller, ())) >= self._most_waiting:
            raise Unavailable("Too many requests are waiting for the same resource; try again shortly.", retry_after=1)
        place = asyncio.get_running_loop().create_future()
        self._queues.setdefault(caller, deque()).append(place)
        self._waiting += 1
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave(caller)  # given in the same moment: the next caller gets it
            else:
                self._forget(caller, place)
            raise
        finally:
            self._waiting -= 1

    def leave(self, caller: Hashable) -> None:
        self._free += 1
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
        while waiting := [waiter for waiter in self._queues if self._may(waiter)]:
            self._give(min(waiting, key=lambda waiter: self._held[waiter]))

    def _give(self, caller: Hashable) -> None:
        queue = self._queues.pop(caller)
        place = queue.popleft()
        if queue:
            self._queues[caller] = queue
        if not place.done():
            self._take(caller)
            place.set_result(None)

    def _may(self, caller: Hashable) -> bool:
        return self._free > 0 and self._held[caller] < self._each

    def _take(self, caller: Hashable) -> None:
        self._free -= 1
        self._held[caller] += 1

    def _forget(self, caller: Hashable, place: "asyncio.Future[None]") -> None:
        # Missing when `_give` has removed it already.
        queue = self._queues.get(caller)
        if queue is not None and place in queue:
            queue.remove(place)
            if not queue:
                del self._queues[caller]
