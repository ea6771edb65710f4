"""How much may be under way at once, shared fairly among holders.

A holder is a tenant, or an address as long as the tenant is unknown. It has at most `share` places at a time, and gets
a free one at once. Requests that find none wait: those of one holder in their order, and holders take turns, so that a
flood delays only its own requests. Waiting is bounded in number, for each holder and in total, and in time.

Does not guarantee: a place for every holder when there are more holders than places.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from shared.errors import QuarryError, RateLimited, Unavailable


class TooManyAtOnce(RateLimited):
    code = "too_many_at_once"
    detail = "This client has too many requests in progress; wait for some to finish."


class TooMuchAtOnce(RateLimited):
    code = "too_much_at_once"
    detail = "This client's request bodies take up too much memory at once; wait for some requests to finish."


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many places there are in total and for one holder, how many requests may wait for one, and how long."""

    most: int
    share: int
    waiting: int = 0  # of one holder
    waiting_in_all: int = 0
    seconds: float = 0.0


def _once() -> int:
    return 1


class ConcurrencyLimit:
    """Places of one kind. `taken` and `waiting` count them as they are now.

    Args:
        what: named to the client when there is no place.
        refusal: raised when the holder's own share is the reason.
        times: the present multiple of `bounds`: one for each replica.
    """

    def __init__(
        self,
        bounds: Bounds,
        what: str,
        *,
        refusal: type[QuarryError] = TooManyAtOnce,
        times: Callable[[], int] = _once,
    ) -> None:
        self._bounds = bounds
        self._what = what
        self._refusal = refusal
        self._times = times
        self._held: dict[str, int] = {}
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.taken = 0
        self.waiting = 0

    def held_by(self, holder: str) -> int:
        return self._held.get(holder, 0)

    @asynccontextmanager
    async def take(self, holder: str) -> AsyncIterator[None]:
        """Hold a place for the length of the block.

        Raises:
            RateLimited: the holder has, or waits for, as many as it may.
            Unavailable: there is none, and too many wait or it took too long.
        """
        if self._may(holder):
            self._give(holder)
        else:
            await self._wait(holder)
        try:
            yield
        finally:
            self._take_back(holder)

    def _may(self, holder: str) -> bool:
        times = max(1, self._times())
        return self.taken < self._bounds.most * times and self.held_by(holder) < self._bounds.share * times

    def _give(self, holder: str) -> None:
        self.taken += 1
        self._held[holder] = self.held_by(holder) + 1

    def _take_back(self, holder: str) -> None:
        self.taken -= 1
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]
        self._serve()

    def _serve(self) -> None:
        """Give what is free to those who wait; a holder that got one is the last to get another."""
        while (holder := next((one for one in self._queues if self._may(one)), None)) is not None:
            queue = self._queues[holder]
            turn = queue.popleft()
            self._queues.move_to_end(holder)
            if not queue:
                del self._queues[holder]
            if not turn.done():
                self._give(holder)
                turn.set_result(None)

    async def _wait(self, holder: str) -> None:
        queue = self._queues.get(holder) or deque()
        if len(queue) >= self._bounds.waiting or self.waiting >= self._bounds.waiting_in_all:
            raise self._refused(holder)
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        queue.append(turn)
        self._queues[holder] = queue
        self.waiting += 1
        timer = loop.call_later(self._bounds.seconds, self._give_up, holder, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._take_back(holder)  # it came at the moment in which the waiter gave up
            else:
                self._forget(holder, turn)
            raise
        finally:
            self.waiting -= 1
            timer.cancel()

    def _give_up(self, holder: str, turn: "asyncio.Future[None]") -> None:
        if not turn.done():
            self._forget(holder, turn)
            turn.set_exception(self._refused(holder))

    def _forget(self, holder: str, turn: "asyncio.Future[None]") -> None:
        queue = self._queues.get(holder)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._queues[holder]

    def _refused(self, holder: str) -> QuarryError:
        if self.held_by(holder) >= self._bounds.share * max(1, self._times()):
            return self._refusal(retry_after=1)
        return Unavailable(f"{self._what} busy.", retry_after=1)


class Memory:
    """Bytes kept for requests under way, by holder."""

    def __init__(self, *, most: int, share: int) -> None:
        self._most = most
        self._share = share
        self._held: dict[str, int] = {}
        self.taken = 0

    @contextmanager
    def kept(self, holder: str) -> Iterator[Callable[[int], None]]:
        """For one request: yields a function that reserves so many more bytes, all released after the block. It raises
        TooMuchAtOnce or Unavailable."""
        own = 0

        def more(count: int) -> None:
            nonlocal own
            if self._held.get(holder, 0) + count > self._share:
                raise TooMuchAtOnce(retry_after=1)
            if self.taken + count > self._most:
                raise Unavailable("The gateway has no memory left for request bodies right now.", retry_after=1)
            own += count
            self.taken += count
            self._held[holder] = self._held.get(holder, 0) + count

        try:
            yield more
        finally:
            self.taken -= own
            if own:
                self._held[holder] -= own
                if not self._held[holder]:
                    del self._held[holder]
