"""A set whose members leave it some time after they were last added."""

import time
from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar

_SECONDS: Final = 30.0

K = TypeVar("K", bound=Hashable)


class ExpiringSet(Generic[K]):
    """Remembers for `seconds`; `member in the_set` asks."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        # Ordered by the last time.
        self._when: dict[K, float] = {}

    def note(self, who: K) -> None:
        self._when.pop(who, None)
        self._when[who] = time.monotonic()
        self._forget()

    def __contains__(self, who: K) -> bool:
        self._forget()
        return who in self._when

    def __iter__(self) -> Iterator[K]:
        self._forget()
        return iter(self._when)

    def _forget(self) -> None:
        long_ago = time.monotonic() - self._seconds
        while self._when and self._when[first := next(iter(self._when))] <= long_ago:
            del self._when[first]
