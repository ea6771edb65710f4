"""The best passages of each document, instead of the best passages."""

import math
import uuid
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from services.indexing.documents.repository import Passage
from services.indexing.search import cursors
from services.indexing.search.live_hits import MAX_PAGE_BYTES, Page, Ranking
from services.indexing.vectors.points import Hit

# Documents looked up beyond the page, so that a few that are gone do not cost a second round.
_SLACK: Final = 10


async def page_of_documents(
    ranking: Ranking, shown: AbstractSet[int], limit: int, size: int, scores: Mapping[int, float] | None = None
) -> Page:
    """The documents of the best hits that were not shown yet, each with its best hit and up to `size - 1` others.

    `scores`, by the marks of hits, order those that have one, before all others. The whole ranking is read: the next
    best passage of a document may be anywhere in it.
    """
    await ranking.read_all()
    hits_in_order = ranking.hits
    if scores is not None:
        hits_in_order = sorted(hits_in_order, key=lambda hit: -scores.get(cursors.mark(hit), -math.inf))
    versions: dict[tuple[uuid.UUID, int], list[Hit]] = {}
    for hit in hits_in_order:
        if cursors.document_mark(hit.document_id) not in shown:
            versions.setdefault((hit.document_id, hit.version), []).append(hit)
    # Of several versions one is live, and of hits some may not fulfil the query's conditions.
    groups = [hits if ranking.is_selective else hits[:size] for hits in versions.values()]
    page, bytes_of_page = Page([], more=False), 0
    met: set[uuid.UUID] = set()
    # Once even without hits: this checks that the caller is still admitted.
    for start in range(0, len(groups) or 1, limit + 1 + _SLACK):
        batch = groups[start : start + limit + 1 + _SLACK]
        live = await ranking.live([hit for hits in batch for hit in hits])
        for hits in batch:
            found = [(hit, live[hit.chunk]) for hit in hits if hit.chunk in live][:size]
            if not found or found[0][0].document_id in met:
                continue
            bytes_of_page += _size(found)
            if len(page.hits) == limit or (page.hits and bytes_of_page > MAX_PAGE_BYTES):
                return Page(page.hits, more=True, others=page.others)
            document_id = found[0][0].document_id
            met.add(document_id)
            page.hits.append(found[0])
            page.others[document_id] = found[1:]
    return page


def _size(found: list[tuple[Hit, Passage]]) -> int:
    return len(found[0][1].metadata) + sum(len(passage.text) for _, passage in found)
