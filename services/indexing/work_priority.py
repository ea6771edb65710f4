"""Priorities inside a process: background work gives way to work that users wait for."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final, Protocol

# A piece of background work waits at most this many times as long as the previous one took: background work gets a
# tenth of the time whatever else there is to do, and does not noticeably delay a note or a search.
_WAITING_FACTOR: Final = 10
_MOST_SECONDS: Final = 5.0


class UrgentWork:
    """Counts the urgent work under way: work that a user waits for."""

    def __init__(self) -> None:
        self._under_way = 0
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def begin(self) -> None:
        self._under_way += 1
        self._some.set()
        self._none.clear()

    def end(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._some.clear()
            self._none.set()

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Wraps one piece of it."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    async def some(self) -> None:
        """Returns when there is some."""
        await self._some.wait()

    async def none(self) -> None:
        """Returns when there is none."""
        await self._none.wait()


class BackgroundWork:
    """Work of one kind that no user waits for, done piece by piece."""

    def __init__(self, urgent: UrgentWork) -> None:
        self._urgent = urgent
        self._last_seconds = 0.0

    @asynccontextmanager
    async def piece(self) -> AsyncIterator[None]:
        """Wraps one piece. It begins while no urgent work is under way, or when it has waited long enough."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(_WAITING_FACTOR * self._last_seconds, _MOST_SECONDS)):
                await self._urgent.none()
        began = time.perf_counter()
        yield
        self._last_seconds = time.perf_counter() - began


class Pausable(Protocol):
    """Work that runs in another process."""

    def pause(self) -> None: ...

    def go_on(self) -> None: ...


async def yield_to(urgent: UrgentWork, background: Pausable) -> None:
    """Until cancelled, pause `background` while urgent work is under way: for `_MOST_SECONDS` at a time at most, and
    not again before it has run for a tenth of the pause."""
    while True:
        await urgent.some()
        background.pause()
        began = time.perf_counter()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_MOST_SECONDS):
                    await urgent.none()
        finally:
            background.go_on()
        await asyncio.sleep((time.perf_counter() - began) / _WAITING_FACTOR)
