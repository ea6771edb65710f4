"""How far a search is: the time it has, the time its stages took, and what its answer will lack.

Within its deadline a search gives up what it can be answered without: an upload that it waits for, the vector of its
query where it has words as well, another order, marked sentences, facets. What it cannot be answered without is an
error when the time is over.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

SECONDS: Final = 5.0
"""Of a search whose client says nothing else; then all of its work stops."""

WAIT_SECONDS: Final = 5.0
"""The most that a search waits for an upload; of `SECONDS` nothing is used up meanwhile."""

# Of the time that the client gives, or of what is left when the stage begins.
_WAITING: Final = 0.5
_OPTIONAL: Final = 0.4
_BEFORE_FACETS_END: Final = 0.1

Missing = Literal["upload_awaited", "upload_failed", "meaning_skipped", "rerank_skipped", "facets_skipped"]


class Progress:
    """`missing` says what the answer lacks, `milliseconds` how long each stage took."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self._limit = limit
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self._given: float | None = None
        self.started = time.perf_counter()
        self.missing: list[Missing] = []
        self.milliseconds: dict[str, float] = {}

    def give(self, milliseconds: int | None) -> None:
        """The time that the client gives for everything, from when the search was begun."""
        if milliseconds is not None:
            self._given = milliseconds / 1000
            self._limit.reschedule(self._began + self._given)

    @contextmanager
    def waiting(self) -> Iterator[float]:
        """The time of the event loop until when the block may wait for an upload."""
        if self._given is not None:
            yield self._began + _WAITING * self._given
            return
        until = self._clock() + WAIT_SECONDS
        self._limit.reschedule(until + SECONDS)
        yield until
        self._limit.reschedule(self._clock() + SECONDS)

    @property
    def optional_ends(self) -> float:
        """When a stage that begins now is given up, if the search can do without it."""
        now = self._clock()
        return now + _OPTIONAL * (self._ends - now)

    @property
    def facets_end(self) -> float:
        return self._ends - _BEFORE_FACETS_END * (self._given or SECONDS)

    @property
    def _ends(self) -> float:
        return self._limit.when() or self._clock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.milliseconds[name] = self.milliseconds.get(name, 0.0) + (time.perf_counter() - began) * 1000
