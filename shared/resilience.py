"""Retries, and backoff with jitter after M. Brooker, "Exponential Backoff And Jitter" (AWS, 2015).

`retried` repeats one call a few times. Loops that go on until they are cancelled, and those that do something else
between two attempts, pause with `Backoff`; the gateway's retries are in `services.gateway.upstreams.retries`.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import tenacity

from shared.errors import QuarryError, Unavailable

_TELL_EVERY: Final = 16

T = TypeVar("T")


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
        """Whether the last pause deserves a line in the log: the first of an outage, then one in sixteen. A dozen
        readers of one Redis would otherwise fill the log when it is down."""
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


async def retried(
    call: Callable[[], Awaitable[T]],
    attempts: int,
    *,
    again: tenacity.retry_base,
    first: float,
    most: float,
) -> T:
    """The result of `call`; while `again` matches its outcome it is called again, `attempts` times in all.

    A pause is at least as long as the `retry_after` of the error, if it has one.

    Args:
        first, most: the pauses between two calls, in seconds; see `Backoff`.

    Raises:
        whatever the last call raises.
    """
    pauses = Backoff(first=first, most=most)
    retrying = tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(attempts),
        wait=lambda state: max(pauses.next(), _asked_for(state)),
        retry=again,
        retry_error_callback=_outcome,
    )
    return await retrying(call)


def _asked_for(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    return (error.retry_after or 0.0) if isinstance(error, QuarryError) else 0.0


def _outcome(state: tenacity.RetryCallState) -> object:
    assert state.outcome is not None  # noqa: S101  # called after an attempt
    return state.outcome.result()
