"""HTTP shapes of search."""

import uuid
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, JsonValue

from services.indexing.pipeline.documents import Location
from services.indexing.search.cursors import MAX_LENGTH
from services.indexing.search.progress import Missing
from services.indexing.vectors.filters import Filter, composed, storable
from shared.request_bodies import Input

FacetField = Annotated[str, Field(pattern=r'^(?:metadata\.[^\x00-\x1f\x7f"\\]{1,200}|content_type)$')]


Omitted = Literal["passages", "metadata", "values", "all"]


class UploadedVersion(Input):
    """A version of a document, as its upload was answered."""

    document_id: uuid.UUID
    version: Annotated[int, Field(ge=1)]


class SearchRequest(Input):
    """A search. `facets` are counted over the best hits only, as many as a ranking contains.

    In `query`, `"..."` stands for words in this order, `-word` and `-"..."` for passages without them. They select from
    the best 500 passages.

    With `rerank`, the installation's reranker orders the best 50 passages again; `score` stays that of the search.
    Without a reranker: 422 `rerank_unsupported`.

    With `highlight` at `semantic`, the sentence that is most like the query is marked in passages that have none of its
    words. That takes longer than the search alone. In the mode `keyword` there are no such passages.

    `read_after` names an upload, by its document or by document and version: the search waits a few seconds until that
    upload, and what was changed of it since, is searchable. With `group_by`, an item is a document: its best passage,
    and up to `group_size` - 1 others in `passages`; `limit` counts documents. `explain` adds why something was found.
    `timeout_ms` is for everything together: what can be left out is left out in time, and `partial_reasons` says so.
    """

    query: Annotated[str, BeforeValidator(composed), Field(min_length=1, max_length=2000), AfterValidator(storable)]
    mode: Literal["hybrid", "semantic", "keyword"] = "hybrid"
    limit: Annotated[int, Field(ge=1, le=50)] = 10
    cursor: Annotated[str | None, Field(max_length=MAX_LENGTH)] = None
    filter: Filter | None = None
    facets: Annotated[tuple[FacetField, ...], Field(max_length=10, fail_fast=True)] = ()
    rerank: bool = False
    highlight: Literal["keyword", "semantic"] = "keyword"
    read_after: uuid.UUID | UploadedVersion | None = None
    group_by: Literal["document"] | None = None
    group_size: Annotated[int, Field(ge=1, le=10)] = 3
    explain: bool = False
    timeout_ms: Annotated[int | None, Field(ge=100, le=10_000)] = None


class Highlight(BaseModel):
    """A half-open range of the item's `text`, in Unicode code points: not in UTF-16 units, as JavaScript counts.

    Of the kind `keyword` it is a word of the query, of the kind `semantic` the sentence that is most like the query.
    """

    start: int
    end: int
    kind: Literal["keyword", "semantic"]


class ScorePart(BaseModel):
    """What one ranking gave a passage: its place in it, from 1, its score there, and what that adds to the item's."""

    rank: int
    score: float
    share: float


class HitExplanation(BaseModel):
    """Null where a ranking does not have the passage. `words` are those of the text that the query matches."""

    semantic: ScorePart | None
    keyword: ScorePart | None
    words: list[str]


class QueryTerm(BaseModel):
    """A stem of a language, or, without one, a word or characters as they are written, folded."""

    text: str
    language: str | None
    weight: float


class SearchExplanation(BaseModel):
    """How the query was read. `mode` is how passages were ranked; `stages_ms` what took how long, in milliseconds."""

    mode: Literal["hybrid", "semantic", "keyword"]
    analyzer: str
    embedder: str
    generation: int
    terms: list[QueryTerm]
    phrases: list[str]
    excluded: list[str]
    stages_ms: dict[str, float]


class GroupedPassage(BaseModel):
    """A further passage of an item's document."""

    chunk_index: int
    score: float
    text: str
    highlights: list[Highlight]
    page: int | None
    location: Location | None
    explanation: HitExplanation | None


class SearchItem(BaseModel):
    """`document_title` is the title that the document gives itself. `passages` are further ones of the document, with
    `group_by`."""

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
    passages: list[GroupedPassage]
    explanation: HitExplanation | None


class FacetValue(BaseModel):
    """A value of a facet, and the number of documents that have it."""

    value: JsonValue
    count: int


class SearchResponse(BaseModel):
    """A page of large items may contain fewer than `limit` of them and still have a `next_cursor`.

    `reranked`: a reranker has ordered the items.

    `facets_partial`: not everything was counted or is listed. `facets_omitted` says what: `passages` beyond the best
    500, `metadata` beyond a megabyte of it or 5,000 values of a field, `values` beyond the 50 most frequent ones, whose
    own counts are exact, `all` when there was no time.
    `partial`: the answer lacks what `partial_reasons` says. `upload_awaited`: the upload of `read_after` was not
    searchable in time; `upload_failed`: it was not indexed, and will not be by itself; `meaning_skipped`: passages were
    ranked by words alone, since the query was not embedded in time; `rerank_skipped`: the reranker did not respond in
    time, and the items are as ranked; `facets_skipped`: facets were not counted in time.
    """

    items: list[SearchItem]
    facets: dict[str, list[FacetValue]]
    facets_partial: bool
    facets_omitted: list[Omitted]
    partial: bool
    partial_reasons: list[Missing]
    explanation: SearchExplanation | None
    next_cursor: str | None
    reranked: bool
    took_ms: float
