"""Waiting well: backoff with full jitter, after M. Brooker, "Exponential Backoff And Jitter" (AWS, 2015)."""

import random


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

    def reset(self) -> None:
        self.attempts = 0
