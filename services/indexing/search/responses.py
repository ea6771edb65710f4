"""Writing the response to a search: straight to JSON, since a page may hold half a megabyte of metadata that Postgres
has as JSON already. `services.indexing.search.schemas.SearchResponse` describes its shape."""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from services.indexing.documents.repository import Passage
from services.indexing.search import explanations
from services.indexing.search.explanations import Explained
from services.indexing.search.facets import Facets
from services.indexing.search.highlights import MAX_TEXT, Highlighter
from services.indexing.search.live_hits import Page
from services.indexing.search.progress import Progress
from services.indexing.vectors.points import Hit

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """The results of a search. `explained` is given if the client wants to know."""

    page: Page
    facets: Facets
    next_cursor: str | None
    progress: Progress
    explained: Explained | None


def writing(found: Found, highlighter: Highlighter) -> Generator[None, None, bytes]:
    """The body of the response. `yield`s now and then."""
    items = []
    for hit, passage in found.page.hits:
        others = []
        for other in found.page.others.get(hit.document_id, ()):
            yield
            others.append((yield from _passage(*other, highlighter, explain=found.explained is not None)))
        yield
        items.append((yield from _item(hit, passage, highlighter, others, explain=found.explained is not None)))
    yield
    explanation = None if found.explained is None else (yield from explanations.of_search(found.explained))
    return orjson.dumps(
        {
            "items": items,
            "facets": {
                field: [{"value": value.value, "count": value.count} for value in values]
                for field, values in found.facets.counts.items()
            },
            "facets_partial": bool(found.facets.omitted),
            "facets_omitted": found.facets.omitted,
            "partial": bool(found.progress.missing),
            "partial_reasons": found.progress.missing,
            "explanation": explanation,
            "next_cursor": found.next_cursor,
            "took_ms": round((time.perf_counter() - found.progress.started) * 1000, 2),
        }
    )


def _item(
    hit: Hit, passage: Passage, highlighter: Highlighter, others: Sequence[JsonObject], *, explain: bool
) -> Generator[None, None, orjson.Fragment]:
    own = yield from _passage(hit, passage, highlighter, explain=explain)
    of_document = {
        "document_id": str(passage.document_id),
        "document_name": passage.document_name,
        "document_title": passage.document_title,
        "version": passage.version,
        "metadata": orjson.Fragment(passage.metadata),
        "passages": others,
    }
    return orjson.Fragment(orjson.dumps(of_document | own))


def _passage(
    hit: Hit, passage: Passage, highlighter: Highlighter, *, explain: bool
) -> Generator[None, None, JsonObject]:
    marks = yield from highlighter.marking(passage.text)
    return {
        "chunk_index": passage.chunk_index,
        "score": hit.score,
        "text": passage.text[:MAX_TEXT],
        "highlights": [{"start": start, "end": end} for start, end in marks],
        "page": passage.page,
        "location": None if passage.location is None else orjson.Fragment(passage.location),
        "explanation": explanations.of_hit(hit, passage.text, marks) if explain else None,
    }
