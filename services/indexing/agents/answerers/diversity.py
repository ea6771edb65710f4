"""Choosing a few of many that are good and not alike."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.indexing.embedders import Vectors

_RELEVANCE: Final = 0.7


def most_relevant_and_diverse(
    scores: NDArray[np.float32], vectors: Vectors, *, most: int, relevance: float = _RELEVANCE
) -> Sequence[int]:
    """Indexes of up to `most` items by maximal marginal relevance, best first (Carbonell and Goldstein, 1998).

    Args:
        scores: shape (n,).
        vectors: shape (n, dimensions), of length one.
        relevance: weight of an item's score; the rest is the weight of its likeness to those chosen before.
    """
    chosen: list[int] = []
    likeness = np.zeros_like(scores)
    while len(chosen) < min(most, len(scores)):
        marginal = relevance * scores - (1 - relevance) * likeness
        marginal[chosen] = -np.inf
        best = int(marginal.argmax())
        chosen.append(best)
        likeness = np.maximum(likeness, vectors @ vectors[best])
    return chosen
