"""Summaries without a model: the sentences that are most like all others, verbatim, each cited where it stands.

Centrality is that of LexRank (Erkan and Radev, 2004) on vectors instead of words: the stationary distribution of a walk
from sentence to sentence that prefers similar ones. Of the most central, those that are not alike are chosen
(`diversity`).

Bounded: `_MOST_SENTENCES` sentences, of passages taken evenly from all that are given.
"""

import uuid
from collections.abc import Generator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.indexing.agents.answerers import sentences
from services.indexing.agents.answerers.base import Draft
from services.indexing.agents.answerers.diversity import most_relevant_and_diverse
from services.indexing.agents.contracts import Passage
from services.indexing.embedders import Embedder, Vectors
from services.indexing.search.fair_share import SearchShares

_MOST_SENTENCES: Final = 120
_MOST_PASSAGES: Final = 40
_SHORTEST_SENTENCE: Final = 30
_DAMPING: Final = 0.85
_ALIKE: Final = 0.1
_STEPS: Final = 30


async def summarise(
    passages: Sequence[Passage],
    *,
    most: int,
    tenant_id: uuid.UUID,
    embedder: Embedder,
    shares: SearchShares,
    language: str | None = None,
) -> Draft:
    """Up to `most` sentences of the passages, which are in the order in which they are to be read.

    The draft's refusal is `no_passages` when there is no sentence.
    """
    found = await shares.compute(tenant_id, _sentences(_evenly(passages), language, most))
    if not found:
        return Draft("", (), refusal="no_passages")
    vectors = await embedder.embed([sentence.text for sentence in found], caller=tenant_id)
    chosen = await shares.compute(tenant_id, _central(vectors, most))
    return sentences.drafted(sentences.in_document_order([found[one] for one in chosen]))


def _evenly(passages: Sequence[Passage]) -> Sequence[Passage]:
    if len(passages) <= _MOST_PASSAGES:
        return passages
    return [passages[number * len(passages) // _MOST_PASSAGES] for number in range(_MOST_PASSAGES)]


def _sentences(
    passages: Sequence[Passage], language: str | None, most: int
) -> Generator[None, None, list[sentences.Sentence]]:
    """Whole sentences where there are enough, else whatever there is: headings, rows."""
    found = yield from sentences.of_passages(passages, language=language, most=len(passages) * 100)
    whole = [each for each in found if len(each.text) >= _SHORTEST_SENTENCE and not each.heading]
    whole = whole if len(whole) >= most else found
    step = max(1, -(-len(whole) // _MOST_SENTENCES))
    return whole[::step]


def _central(vectors: Vectors, most: int) -> Generator[None, None, Sequence[int]]:
    scores = centrality(vectors)
    yield
    # As they are, central sentences of one subject are hardly told apart.
    return most_relevant_and_diverse(scores / scores.max(), vectors, most=most)


def centrality(vectors: Vectors) -> NDArray[np.float32]:
    """How central each sentence is, shape (n,), of sum one; `vectors` of shape (n, dimensions) have length one."""
    likeness = vectors @ vectors.T
    likeness[likeness < _ALIKE] = 0.0
    np.fill_diagonal(likeness, 1.0)  # also that of a vector of zeros
    walk = likeness / likeness.sum(axis=1, keepdims=True)
    scores = np.full(len(vectors), 1 / len(vectors), np.float32)
    for _ in range(_STEPS):
        scores = (1 - _DAMPING) / len(vectors) + _DAMPING * (scores @ walk)
    return np.asarray(scores, np.float32)
