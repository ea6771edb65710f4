"""HTTP shapes of search."""

import uuid
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, JsonValue

from services.indexing.pipeline.documents import Location
from services.indexing.search.cursors import MAX_LENGTH
from services.indexing.vectors.filters import Filter, storable
from shared.request_bodies import Input

FacetField = Annotated[str, Field(pattern=r'^(?:metadata\.[^\x00-\x1f\x7f"\\]{1,200}|content_type)$')]


class SearchRequest(Input):
    """A search. `facets` are counted over the best hits only, as many as a ranking contains.

    In `query`, `"..."` stands for words in this order, `-word` and `-"..."` for passages without them. They select from
    the best 500 passages.

    With `rerank`, the installation's reranker orders the best 50 passages again; `score` stays that of the search.
    Without a reranker: 422 `rerank_unsupported`.

    With `highlight` at `semantic`, the sentence that is most like the query is marked in passages that have none of its
    words. That takes longer than the search alone. In the mode `keyword` there are no such passages.
    """

    query: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(storable)]
    mode: Literal["hybrid", "semantic", "keyword"] = "hybrid"
    limit: Annotated[int, Field(ge=1, le=50)] = 10
    cursor: Annotated[str | None, Field(max_length=MAX_LENGTH)] = None
    filter: Filter | None = None
    facets: Annotated[tuple[FacetField, ...], Field(max_length=10, fail_fast=True)] = ()
    rerank: bool = False
    highlight: Literal["keyword", "semantic"] = "keyword"


class Highlight(BaseModel):
    """A half-open range of the item's `text`, in Unicode code points: not in UTF-16 units, as JavaScript counts.

    Of the kind `keyword` it is a word of the query, of the kind `semantic` the sentence that is most like the query.
    """

    start: int
    end: int
    kind: Literal["keyword", "semantic"]


class SearchItem(BaseModel):
    """`document_title` is the title that the document gives itself."""

    document_id: uuid.UUID
    document_name: str
    document_title: str | None
    version: int
    chunk_index: int
    score: float
    text: str
    highlights: list[Highlight]
    page: int | None
    location: Location | None
    metadata: dict[str, Any]


class FacetValue(BaseModel):
    """A value of a facet, and the number of documents that have it."""

    value: JsonValue
    count: int


class SearchResponse(BaseModel):
    """A page of large items may contain fewer than `limit` of them and still have a `next_cursor`.

    `reranked`: a reranker has ordered the items. When one was asked for and does not respond, they are as ranked.

    `facets_partial`: there was too much metadata to count all of it; only that of the best hits was counted.
    """

    items: list[SearchItem]
    facets: dict[str, list[FacetValue]]
    facets_partial: bool
    next_cursor: str | None
    reranked: bool
    took_ms: float
