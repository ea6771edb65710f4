"""Waiting well: backoff with full jitter, after M. Brooker, "Exponential Backoff And Jitter" (AWS, 2015)."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from shared.errors import Unavailable

_TELL_EVERY: Final = 16


class Backoff:
    """Delays that grow from `first` to `most` seconds and start over after `reset()`.

    Each delay is drawn between half of the exponential step and the step: waiters spread out and none returns at once.
    """

    def __init__(self, *, first: float = 0.1, most: float = 5.0) -> None:
        self._first = first
        self._most = most
        self.attempts = 0

    def next(self) -> float:
        step = min(self._most, self._first * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        return random.uniform(step / 2, step)  # noqa: S311  # spreading load, not a secret

    @property
    def worth_telling(self) -> bool:
        """Whether the pause given last deserves a line in the log: the first of an outage, then one in sixteen. A dozen
        readers of one Redis would otherwise fill the log with its absence."""
        return self.attempts == 1 or self.attempts % _TELL_EVERY == 0

    def reset(self) -> None:
        self.attempts = 0


@asynccontextmanager
async def answered_within(seconds: float) -> AsyncIterator[None]:
    """Give up on the block after a while.

    Raises:
        Unavailable: it took longer.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise Unavailable(retry_after=2) from error
