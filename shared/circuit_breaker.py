"""A circuit breaker: stops calling what does not respond, and probes with one call whether it does again.

    closed --(failures in a row)--> open --(pause)--> half open --(the probe succeeds)--> closed
                                     ^                    |
                                     +--(it fails; the pause grows)

While half open exactly one call is let through, all others are refused. A probe that is abandoned (its client left) or
that takes longer than `probe_seconds` gives its place to the next call. Outcomes of calls admitted before the last
change of state are ignored: they are out of date.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from shared.errors import Unavailable


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Call:
    """One admitted call, to report its outcome on. A call without an outcome counts for nothing."""

    def __init__(self, breaker: "Breaker", generation: int) -> None:
        self._breaker = breaker
        self._generation = generation

    def succeeded(self) -> None:
        self._breaker.on_success(self._generation)

    def failed(self, *, at_once: bool = False, most_pause: float | None = None) -> None:
        """Args:
        at_once: one failure is enough to open it.
        most_pause: the longest pause this failure may lead to, where a probe costs next to nothing.
        """
        self._breaker.on_failure(self._generation, at_once=at_once, most_pause=most_pause)


class Breaker:
    """The state of one replica or endpoint.

    Args:
        name: named to clients when open.
        threshold: failures in a row that open it.
        first_pause, most_pause: seconds until a probe; doubled with every failed probe.
        probe_seconds: how long a probe keeps the others out.
    """

    def __init__(
        self,
        name: str,
        *,
        threshold: int = 5,
        first_pause: float = 1.0,
        most_pause: float = 5.0,
        probe_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._threshold = threshold
        self._first_pause = self._pause = first_pause
        self._most_pause = most_pause
        self._probe_seconds = probe_seconds
        self._clock = clock
        self._failures = 0
        self._generation = 0
        self._opened_at: float | None = None
        self._probe_until: float | None = None

    @property
    def state(self) -> State:
        if self._opened_at is None:
            return State.CLOSED
        return State.HALF_OPEN if self._clock() >= self._opened_at + self._pause else State.OPEN

    @property
    def admits(self) -> bool:
        """Whether a call may be made now, even if only as a probe."""
        if self._opened_at is None:
            return True
        return self._wait(self._opened_at) <= 0

    @contextmanager
    def call(self) -> Iterator[Call]:
        """Ask to make a call.

        Raises:
            Unavailable: the breaker is open, or another call is probing.
        """
        if self._opened_at is None:
            yield Call(self, self._generation)
            return
        self._become_probe(self._opened_at)
        generation = self._generation
        try:
            yield Call(self, generation)
        finally:
            if generation == self._generation:
                self._probe_until = None

    def _become_probe(self, opened_at: float) -> None:
        wait = self._wait(opened_at)
        if wait > 0:
            raise Unavailable(f"The {self.name} service cannot be reached.", retry_after=wait)
        self._generation += 1
        self._probe_until = self._clock() + self._probe_seconds

    def _wait(self, opened_at: float) -> float:
        now = self._clock()
        wait = opened_at + self._pause - now
        if wait <= 0 and self._probe_until is not None:
            wait = self._probe_until - now
        return wait

    def on_success(self, generation: int) -> None:
        if generation != self._generation:
            return
        self._failures = 0
        if self._opened_at is not None:
            self._generation += 1
            self._opened_at = self._probe_until = None
            self._pause = self._first_pause

    def on_failure(self, generation: int, *, at_once: bool = False, most_pause: float | None = None) -> None:
        if generation != self._generation:
            return
        self._failures += 1
        probing = self._opened_at is not None
        if probing:
            most = self._most_pause if most_pause is None else most_pause
            self._pause = min(most, self._pause * 2)
        if probing or at_once or self._failures >= self._threshold:
            self._generation += 1
            self._opened_at = self._clock()
            self._probe_until = None
