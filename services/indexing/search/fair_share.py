"""The resources that searches share, and how much of them one tenant may hold.

| shared | at once | of one tenant |
| --- | --- | --- |
| searches that are not waiting for their query's vector, from parsing on | 32 | 1 of 68 |
| reading from the vector store | 4 | 1 |
| computing (facets, marks, the response) | 1 slice of a millisecond, 0.3 ms beside other tenants | 1 |

Guarantees: tenants take turns, so a search waits for at most one piece of each other tenant's work. A tenant that has
several searches under way, more than others and as costly, or not more but clearly more costly ones, rests after each
for as long as it took, while others search as well: at least half of a process's time is left to them. The number
of waiting searches does not decide alone, since searches delayed by a costly tenant pile up. Computing is off the event
loop, in one thread that releases the interpreter after each slice; work whose caller is gone is not continued.
Does not guarantee: shares across the processes of the service. Each has its own.
"""

import asyncio
import time
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeVar

from services.indexing.search.errors import TooManySearches
from shared.fair_semaphore import FairSemaphore

_SEARCHES: Final = 32
_ASKED_EACH: Final = 68
_READS: Final = 4
# Compares a search with the longest recent one of other tenants, which concurrent work has made longer.
_COMPARABLE: Final = 0.5
_CLEARLY_MORE: Final = 1.5
_LATELY_SECONDS: Final = 1.0
_SLICE_SECONDS: Final = 0.001
# While others search as well: their work waits for the interpreter again and again.
_SHORT_SLICE_SECONDS: Final = 0.0003

T = TypeVar("T")


class SearchShares:
    """Made once for an application; `close` at its end."""

    def __init__(self) -> None:
        self._searches = FairSemaphore(_SEARCHES, each=1)
        self._reading = FairSemaphore(_READS, each=1)
        self._computing = FairSemaphore(1)
        self._asked: Counter[uuid.UUID] = Counter()
        # The two tenants that searched last, and when.
        self._lately: deque[tuple[uuid.UUID, float]] = deque(maxlen=2)
        # The duration of each tenant's longest recent search, and when it ended; ordered by that.
        self._longest: OrderedDict[uuid.UUID, tuple[float, float]] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    @asynccontextmanager
    async def search(self, tenant_id: uuid.UUID) -> AsyncIterator[None]:
        """Wraps a whole search. Within it, `turn` wraps everything except waiting for the query's vector.

        Raises:
            TooManySearches: the tenant has as many as it may already.
        """
        if self._asked[tenant_id] >= _ASKED_EACH:
            raise TooManySearches(retry_after=1)
        self._asked[tenant_id] += 1
        if self._lately and self._lately[-1][0] == tenant_id:
            self._lately.pop()
        self._lately.append((tenant_id, asyncio.get_running_loop().time()))
        try:
            yield
        finally:
            self._asked[tenant_id] -= 1
            if not self._asked[tenant_id]:
                del self._asked[tenant_id]

    @asynccontextmanager
    async def turn(self, tenant_id: uuid.UUID) -> AsyncIterator[None]:
        """Wraps the parts of a search in which it works."""
        clock = asyncio.get_running_loop().time
        await self._searches.enter(tenant_id)
        began = clock()
        try:
            yield
        finally:
            now = clock()
            if rest := self._rest(tenant_id, now - began, now):
                asyncio.get_running_loop().call_later(rest, self._searches.leave, tenant_id)
            else:
                self._searches.leave(tenant_id)

    def _rest(self, tenant_id: uuid.UUID, seconds: float, now: float) -> float:
        """Seconds to rest after a search that took `seconds`; none unless others search as well."""
        self._note(tenant_id, seconds, now)
        if not any(tenant != tenant_id and now - asked < _LATELY_SECONDS for tenant, asked in self._lately):
            return 0.0
        theirs = max((took for tenant, (took, _) in self._longest.items() if tenant != tenant_id), default=0.0)
        mine = self._asked[tenant_id]
        more = all(mine > asked for tenant, asked in self._asked.items() if tenant != tenant_id)
        costs_enough = seconds >= theirs * (_COMPARABLE if more else _CLEARLY_MORE)
        return seconds if mine > 1 and costs_enough else 0.0

    def _note(self, tenant_id: uuid.UUID, seconds: float, now: float) -> None:
        while self._longest and next(iter(self._longest.values()))[1] < now - _LATELY_SECONDS:
            self._longest.popitem(last=False)
        if seconds >= self._longest.get(tenant_id, (0.0, now))[0]:
            self._longest[tenant_id] = seconds, now
            self._longest.move_to_end(tenant_id)

    def reading(self, tenant_id: uuid.UUID) -> AbstractAsyncContextManager[None]:
        return self._reading.turn(tenant_id)

    async def compute(self, tenant_id: uuid.UUID, work: Generator[None, None, T]) -> T:
        """The result of `work`, which takes less than a millisecond between two `yield`s."""
        loop = asyncio.get_running_loop()
        outcome: list[T] = []
        while not outcome:
            async with self._computing.turn(tenant_id):
                seconds = _SLICE_SECONDS if len(self._asked) == 1 else _SHORT_SLICE_SECONDS
                await loop.run_in_executor(self._thread, _slice, work, seconds, outcome)
        return outcome[0]


def _slice(work: Generator[None, None, T], seconds: float, outcome: list[T]) -> None:
    until = time.perf_counter() + seconds
    try:
        while time.perf_counter() < until:
            next(work)
    except StopIteration as done:
        outcome.append(done.value)
