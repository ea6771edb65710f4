"""HTTP shapes of search."""

import uuid
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, JsonValue

from services.indexing.search.filters import Filter
from shared.http import Input


def _text(value: str) -> str:
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("text must not contain NUL or lone surrogates")
    return value


FacetField = Annotated[str, Field(pattern=r'^(?:metadata\.[^\x00-\x1f\x7f"\\]{1,200}|content_type)$')]


class SearchRequest(Input):
    """What to look for. `facets` are counted over the best hits, as deep as a ranking goes."""

    query: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_text)]
    mode: Literal["hybrid", "semantic", "keyword"] = "hybrid"
    limit: Annotated[int, Field(ge=1, le=50)] = 10
    cursor: Annotated[str | None, Field(max_length=512)] = None
    filter: Filter | None = None
    facets: Annotated[tuple[FacetField, ...], Field(max_length=10)] = ()
    rerank: bool = False


class Highlight(BaseModel):
    """A half-open range of characters of the item's `text`."""

    start: int
    end: int


class SearchItem(BaseModel):
    document_id: uuid.UUID
    document_name: str
    version: int
    chunk_index: int
    score: float
    text: str
    highlights: list[Highlight]
    page: int | None
    metadata: dict[str, Any]


class FacetValue(BaseModel):
    """`count` documents with this value."""

    value: JsonValue
    count: int


class SearchResponse(BaseModel):
    items: list[SearchItem]
    facets: dict[str, list[FacetValue]]
    next_cursor: str | None
    took_ms: float
