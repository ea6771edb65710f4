"""Whether two kinds of request can be told apart by how long they take.

The measure is the probability that a request of one kind takes longer than one of the other (the Mann-Whitney statistic
divided by the number of pairs): one half when the kinds are alike, whatever the shape of the noise. Samples are taken
in pairs whose order is drawn at random, so that a busy moment befalls both kinds alike.

The bound has two parts. `TOLERATED`: what an attacker may gain, being right in five more of a hundred guesses than by
chance. `DEVIATIONS`: standard deviations of the statistic under equality, sqrt((2n+1)/(12 n^2)) for n pairs: by chance
alone the bound at n = 200 lies 5.7 of them away, which happens once in 80 million comparisons. A shift by half the
distance between the quartiles gives about 0.64 to 0.70, and is found.
"""

import math
import random
import statistics
import time
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

TOLERATED = 0.05
DEVIATIONS = 4.0
Ask = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Milliseconds; `longer` is the probability that one of the first kind takes longer than one of the second."""

    pairs: int
    difference_of_medians: float
    spread: float
    longer: float

    @property
    def bound(self) -> float:
        return TOLERATED + DEVIATIONS * math.sqrt((2 * self.pairs + 1) / (12 * self.pairs**2))

    @property
    def alike(self) -> bool:
        return abs(self.longer - 0.5) <= self.bound

    def __str__(self) -> str:
        return (
            f"medians {self.difference_of_medians:+.3f} ms apart, quartiles {self.spread:.3f} ms; "
            f"first longer in {self.longer:.3f} of pairs, bound 0.5 +- {self.bound:.3f} at n = {self.pairs}"
        )


async def compare(first: Ask, second: Ask, *, pairs: int) -> Comparison:
    """Time both kinds of request, interleaved."""
    for ask in (first, second, first, second):
        await ask()  # connections are made, and what is cached is cached
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(pairs):
        for kind in random.sample((0, 1), 2):
            began = time.perf_counter()
            await (first, second)[kind]()
            taken[kind].append((time.perf_counter() - began) * 1000)
    return compared(*taken)


def compared(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """The comparison of samples in milliseconds, as many of each kind."""
    quartiles = statistics.quantiles([*first, *second], n=4)
    ordered = sorted(second)
    wins = sum(bisect_left(ordered, value) + bisect_right(ordered, value) for value in first) / 2
    return Comparison(
        pairs=len(first),
        difference_of_medians=statistics.median(first) - statistics.median(second),
        spread=quartiles[2] - quartiles[0],
        longer=wins / (len(first) * len(second)),
    )
