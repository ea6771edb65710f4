"""The sentence of a passage that is most like the query, for passages in which none of the query's words occurs.

Sentences are embedded as the passages were, and compared with the query's vector. That takes longer than the search
itself, so it is done where a request asks for it (`highlight`).

Bounded: `MOST_SENTENCES` sentences of a page, the best passages first, and `MOST_EACH` of a passage, within its first
`_READ` characters; `_SECONDS` for all. Embedding takes turns with all that is embedded. What is not done by then, or by
an embedder that does not respond, stays unmarked: a search does not fail for a mark.
"""

import asyncio
import uuid
from collections.abc import Generator, Mapping
from typing import Final

import numpy as np

from services.indexing.analysis.analyzer import Span
from services.indexing.analysis.sentences import spans
from services.indexing.embedders import Embedder
from services.indexing.embedders.errors import EmbedderUnavailable
from services.indexing.search.fair_share import SearchShares
from services.indexing.search.highlights import Highlighter
from services.indexing.vectors.points import Vector
from shared.telemetry import span

MOST_SENTENCES: Final = 64
MOST_EACH: Final = 8

_READ: Final = 2_000
_SECONDS: Final = 1.0


async def of_page(
    shares: SearchShares,
    embedder: Embedder,
    query: Vector,
    texts: Mapping[uuid.UUID, str],
    highlighter: Highlighter,
    *,
    tenant_id: uuid.UUID,
) -> Mapping[uuid.UUID, Span]:
    """The best sentences of those of the texts that have no marks, by their keys in `texts`, which are best first."""
    async with shares.turn(tenant_id):
        found = await shares.compute(tenant_id, candidates(texts, highlighter))
    best = {key: sentences[0] for key, sentences in found.items() if len(sentences) == 1}
    compared = [(key, sentence) for key, several in found.items() if len(several) > 1 for sentence in several]
    if not compared:
        return best
    try:
        with span("embed sentences"):
            async with asyncio.timeout(_SECONDS):
                vectors = await embedder.embed(
                    [texts[key][start:end] for key, (start, end) in compared], caller=tenant_id
                )
    except (TimeoutError, EmbedderUnavailable):
        return best
    scores = vectors @ np.asarray(query, np.float32)
    # The best of each text last, so that it is the one that stays; of equals the first.
    return best | dict(compared[place] for place in np.argsort(-scores, kind="stable")[::-1])


def candidates(
    texts: Mapping[uuid.UUID, str], highlighter: Highlighter
) -> Generator[None, None, dict[uuid.UUID, list[Span]]]:
    """The sentences to choose from, of the texts without marks; `yield`s now and then."""
    found: dict[uuid.UUID, list[Span]] = {}
    left = MOST_SENTENCES
    for key, text in texts.items():
        yield
        if not left or (yield from highlighter.marking(text)):
            continue
        sentences = [*spans(text[:_READ])][: min(MOST_EACH, left)]
        if sentences:
            found[key] = sentences
            left -= len(sentences)
    return found
