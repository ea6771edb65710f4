"""Rankings and their fusion.

A convex combination of scores, each ranking scaled by its best score (after Bruch, Gai and Ingber, ACM TOIS 2023), in
equal parts. What is far ahead in one ranking stays ahead: an exact word that few passages have, or, with an embedder
that does not know the language and finds everything equally similar, whatever the words say. Reciprocal rank fusion
sees only that one is before the other. Done here because the engine orders equal sums at random, and pages need one
order.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TypedDict

Ranked = tuple[int, float]
"""The id of a point, as a number, and its score."""


class Part(TypedDict):
    """What one ranking gave a point: its place in it, from 1, its score there, and what that adds to the whole."""

    rank: int
    score: float
    share: float


Parts = dict[str, Part]
"""By the ranking, `semantic` or `keyword`, where it has the point."""


def ranked(scores: Iterable[Ranked]) -> list[Ranked]:
    """Best first; equal scores by id."""
    by_id = sorted(scores, key=itemgetter(0))
    return sorted(by_id, key=itemgetter(1), reverse=True)  # stable also in reverse


def fuse(rankings: Sequence[Sequence[Ranked]]) -> list[Ranked]:
    """Scores from 0 to 1, which is the best of every ranking. Scores below 0 count as 0."""
    sums: dict[int, float] = {}
    for ranking in rankings:
        best = max((score for _, score in ranking), default=0.0)
        for point, score in ranking:
            sums[point] = sums.get(point, 0.0) + _share(score, best, len(rankings))
    return ranked(sums.items())


def parts_of(points: Iterable[int], rankings: Mapping[str, Sequence[Ranked]], *, fused: bool) -> list[Parts]:
    """Of these points' scores. `fused`: whether they are those of `fuse`."""
    wanted = {point: Parts() for point in points}
    for name, ranking in rankings.items():
        best = max((score for _, score in ranking), default=0.0)
        for rank, (point, score) in enumerate(ranking, start=1):
            if point in wanted:
                share = _share(score, best, len(rankings)) if fused else score
                wanted[point][name] = Part(rank=rank, score=score, share=share)
    return list(wanted.values())


def _share(score: float, best: float, rankings: int) -> float:
    return score / best / rankings if score > 0 else 0.0
