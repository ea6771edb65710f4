"""Writing the response to a search: straight to JSON, since a page may hold half a megabyte of metadata that Postgres
has as JSON already. `services.indexing.search.schemas.SearchResponse` describes its shape."""

import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson

from services.indexing.analysis.analyzer import Span
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
    """The results of a search. `explained`: if the client wants to know; `reranked`: a reranker has ordered them."""

    page: Page
    facets: Facets
    next_cursor: str | None
    progress: Progress
    explained: Explained | None
    reranked: bool


def writing(
    found: Found, highlighter: Highlighter, sentences: Mapping[uuid.UUID, Span] = MappingProxyType({})
) -> Generator[None, None, bytes]:
    """The body of the response. `yield`s now and then.

    `sentences`: of passages without any of the query's words, by their points, the one that is marked instead.
    """
    passages = _Passages(highlighter, sentences, explained=found.explained is not None)
    items = []
    for hit, passage in found.page.hits:
        others = []
        for other in found.page.others.get(hit.document_id, ()):
            yield
            others.append((yield from passages.described(*other)))
        yield
        items.append(_item(passage, (yield from passages.described(hit, passage)), others))
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
            "reranked": found.reranked,
            "took_ms": round((time.perf_counter() - found.progress.started) * 1000, 2),
        }
    )


@dataclass(frozen=True, slots=True)
class _Passages:
    highlighter: Highlighter
    sentences: Mapping[uuid.UUID, Span]
    explained: bool

    def described(self, hit: Hit, passage: Passage) -> Generator[None, None, JsonObject]:
        words = yield from self.highlighter.marking(passage.text)
        sentence = self.sentences.get(hit.point_id)
        marks, kind = (words, "keyword") if sentence is None else ([sentence], "semantic")
        return {
            "chunk_index": passage.chunk_index,
            "score": hit.score,
            "text": passage.text[:MAX_TEXT],
            "highlights": [{"start": start, "end": end, "kind": kind} for start, end in marks],
            "page": passage.page,
            "location": None if passage.location is None else orjson.Fragment(passage.location),
            "explanation": explanations.of_hit(hit, passage.text, words) if self.explained else None,
        }


def _item(passage: Passage, best: JsonObject, others: Sequence[JsonObject]) -> orjson.Fragment:
    """A document's best passage, with what concerns the document."""
    of_document = {
        "document_id": str(passage.document_id),
        "document_name": passage.document_name,
        "document_title": passage.document_title,
        "version": passage.version,
        "metadata": orjson.Fragment(passage.metadata),
        "passages": others,
    }
    return orjson.Fragment(orjson.dumps(of_document | best))
