"""What a search does with a reranker: it has the best `RERANKED` passages ordered, and goes on with the others as they
were ranked.

The reranker is asked outside the search's turn, and what is shown is read after it has responded, so nothing that was
deleted meanwhile is. Every page of a query asks for the same passages: those shown before are left out afterwards.
"""

import uuid
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from services.indexing.documents.repository import Passage
from services.indexing.search import cursors
from services.indexing.search.errors import RerankerUnavailable
from services.indexing.search.fair_share import SearchShares
from services.indexing.search.live_hits import MAX_PAGE_BYTES, Page, Ranking
from services.indexing.search.reranking.endpoint import EndpointReranker
from services.indexing.vectors.points import Hit
from shared.telemetry import get_logger, span

RERANKED: Final = 50
_MOST_TEXT: Final = 4_000

Scores = Mapping[int, float]
"""By the marks of hits (`cursors.mark`)."""

_log = get_logger(__name__)


async def scores(
    shares: SearchShares, reranker: EndpointReranker, ranking: Ranking, query: str, *, tenant_id: uuid.UUID
) -> Scores | None:
    """The reranker's scores of the best passages; None when it does not respond.

    Raises:
        NotFound, Forbidden, Unavailable: as `Ranking.page`.
    """
    async with shares.turn(tenant_id):
        best = (await ranking.page(frozenset(), RERANKED)).hits
    if not best:
        return {}
    texts = [_text(passage) for _, passage in best]
    try:
        with span("rerank"):
            found = await reranker.scores(query, texts, caller=tenant_id)
    except RerankerUnavailable as error:
        _log.warning("reranker_away", reason=error.reason)
        return None
    return {cursors.mark(hit): score for (hit, _), score in zip(best, found, strict=True)}


async def page(ranking: Ranking, known: Scores | None, shown: AbstractSet[int], limit: int) -> Page:
    """The best hits that were not shown yet, by the reranker's scores as far as there are some."""
    if not known:
        return await ranking.page(shown, limit)
    head = await ranking.page(frozenset(), RERANKED)
    scored = [hit for hit in head.hits if cursors.mark(hit[0]) in known]
    fresh = [hit for hit in scored if cursors.mark(hit[0]) not in shown]
    fresh.sort(key=lambda hit: -known[cursors.mark(hit[0])])  # stable: equals stay as they were ranked
    found = _that_fit(fresh[:limit])
    if len(found) < len(fresh):
        return Page(found, more=True)
    rest = await ranking.page(shown | {cursors.mark(hit) for hit, _ in scored}, max(limit - len(found), 1))
    if len(found) == limit:
        return Page(found, more=bool(rest.hits))
    joined = _that_fit([*found, *rest.hits])
    return Page(joined, more=rest.more or len(joined) < len(found) + len(rest.hits))


def _that_fit(hits: list[tuple[Hit, Passage]]) -> list[tuple[Hit, Passage]]:
    size = 0
    for number, (_, passage) in enumerate(hits):
        size += len(passage.text) + len(passage.metadata)
        if number and size > MAX_PAGE_BYTES:
            return hits[:number]
    return hits


def _text(passage: Passage) -> str:
    """With the document's title, which says what the passage is about."""
    return "\n".join(filter(None, (passage.document_title, passage.text)))[:_MOST_TEXT]
