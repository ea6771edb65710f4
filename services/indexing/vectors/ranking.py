"""Rankings and their fusion.

Reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009): a point scores the sum over rankings of 1 / (k +
rank), ranks from 1, k 60. Done here because the engine orders equal sums at random, and pages need one order.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Final

Ranked = tuple[int, float]
"""The id of a point, as a number, and its score."""

RRF_K: Final = 60


def ranked(scores: Iterable[Ranked]) -> list[Ranked]:
    """Best first; equal scores by id."""
    by_id = sorted(scores, key=itemgetter(0))
    return sorted(by_id, key=itemgetter(1), reverse=True)  # stable also in reverse


def fuse(rankings: Sequence[Sequence[Ranked]]) -> list[Ranked]:
    sums: dict[int, float] = {}
    for ranking in rankings:
        for rank, (point, _) in enumerate(ranking, start=1):
            sums[point] = sums.get(point, 0.0) + 1 / (RRF_K + rank)
    return ranked(sums.items())
