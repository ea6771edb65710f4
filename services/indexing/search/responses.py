"""Writing the response to a search: straight to JSON, since a page may hold half a megabyte of metadata that Postgres
has as JSON already. `services.indexing.search.schemas.SearchResponse` describes its shape."""

import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import orjson

from services.indexing.analysis.analyzer import Span
from services.indexing.documents.repository import Passage
from services.indexing.search.facets import Facets
from services.indexing.search.highlights import MAX_TEXT, Highlighter
from services.indexing.vectors.points import Hit


@dataclass(frozen=True, slots=True)
class Found:
    """The results of a search. `started`: `time.perf_counter()` when it began. `reranked`: whether a reranker has
    ordered them."""

    hits: Sequence[tuple[Hit, Passage]]
    facets: Facets
    next_cursor: str | None
    started: float
    reranked: bool


def writing(
    found: Found, highlighter: Highlighter, sentences: Mapping[uuid.UUID, Span] = MappingProxyType({})
) -> Generator[None, None, bytes]:
    """The body of the response. `yield`s now and then.

    `sentences`: of passages without any of the query's words, by their points, the one that is marked instead.
    """
    items = []
    for hit, passage in found.hits:
        yield
        items.append((yield from _item(hit, passage, highlighter, sentences.get(hit.point_id))))
    yield
    return orjson.dumps(
        {
            "items": items,
            "facets": {
                field: [{"value": value.value, "count": value.count} for value in values]
                for field, values in found.facets.counts.items()
            },
            "facets_partial": found.facets.partial,
            "next_cursor": found.next_cursor,
            "reranked": found.reranked,
            "took_ms": round((time.perf_counter() - found.started) * 1000, 2),
        }
    )


def _item(
    hit: Hit, passage: Passage, highlighter: Highlighter, sentence: Span | None
) -> Generator[None, None, orjson.Fragment]:
    if sentence is None:
        marks, kind = (yield from highlighter.marking(passage.text)), "keyword"
    else:
        marks, kind = [sentence], "semantic"
    return orjson.Fragment(
        orjson.dumps(
            {
                "document_id": str(passage.document_id),
                "document_name": passage.document_name,
                "document_title": passage.document_title,
                "version": passage.version,
                "chunk_index": passage.chunk_index,
                "score": hit.score,
                "text": passage.text[:MAX_TEXT],
                "highlights": [{"start": start, "end": end, "kind": kind} for start, end in marks],
                "page": passage.page,
                "location": None if passage.location is None else orjson.Fragment(passage.location),
                "metadata": orjson.Fragment(passage.metadata),
            }
        )
    )
