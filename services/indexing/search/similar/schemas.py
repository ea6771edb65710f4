"""HTTP shapes of similar documents."""

import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from services.indexing.pipeline.documents import Location
from services.indexing.vectors.filters import Filter
from shared.request_bodies import Input


class SimilarRequest(Input):
    """Which documents to compare with. `mode` as in a search: by meaning, by words, or by both."""

    mode: Literal["hybrid", "semantic", "keyword"] = "hybrid"
    limit: Annotated[int, Field(ge=1, le=50)] = 10
    filter: Filter | None = None


class SimilarDocument(BaseModel):
    """A document, and the passage of it that is most like the document that was asked about."""

    document_id: uuid.UUID
    document_name: str
    document_title: str | None
    version: int
    score: float
    chunk_index: int
    text: str
    page: int | None
    location: Location | None
    metadata: dict[str, Any]


class SimilarDocuments(BaseModel):
    """The most similar first, never the document itself, each once; fewer than `limit` where they are large."""

    items: list[SimilarDocument]
    took_ms: float
