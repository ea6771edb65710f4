"""Rankings and their fusion.

A convex combination of scores, each ranking scaled by its best score (after Bruch, Gai and Ingber, ACM TOIS 2023), in
equal parts. What is far ahead in one ranking stays ahead: an exact word that few passages have, or, with an embedder
that does not know the language and finds everything equally similar, whatever the words say. Reciprocal rank fusion
sees only that one is before the other. Done here because the engine orders equal sums at random, and pages need one
order.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter

Ranked = tuple[int, float]
"""The id of a point, as a number, and its score."""


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
            share = score / best / len(rankings) if score > 0 else 0.0
            sums[point] = sums.get(point, 0.0) + share
    return ranked(sums.items())
