"""The inputs and outputs of the vector store, in the caller's terms: chunks, queries, hits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from uuid import UUID, uuid5

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from services.indexing.analysis import ANALYZERS, CURRENT
from services.indexing.vectors.filters import FilterNode
from services.indexing.vectors.ranking import Parts

Vector = npt.NDArray[np.float32] | Sequence[float]
Mode = Literal["semantic", "keyword", "hybrid"]

MAX_WINDOW: Final = 500
"""How deep a ranking goes: `offset + limit` of a query is at most this."""

SEARCH_SECONDS: Final = 2.5
"""How long an engine may take for a search; after that it is not begun."""

USUAL_LENGTH: Final = 400.0
"""Of a chunk, in characters."""

_FIRST: Final = 1
_GENERATION_BITS: Final = 32
_NAMESPACE: Final = UUID("6a3c0f4e-5d0b-5b5e-9a53-0d6d0e6f7a11")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkPoint:
    """One chunk of one version of a document. Tenant and project are not here: the facade adds them.

    `text` and `context` (title, headings) feed the keyword vector, made by `analyzer`, and are not stored;
    `average_length` is that of both, in characters, over the project's chunks. `vector` need not be normalised.
    `generation` tells apart the points of different embedding models. `metadata`, `name` and `language` are the
    document's, for filters.
    """

    document_id: UUID
    version: int
    chunk_index: int
    vector: Vector
    text: str
    content_type: str
    created_at: datetime
    context: str = ""
    analyzer: str = CURRENT
    average_length: float = USUAL_LENGTH
    generation: int = 1
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    name: str = ""
    language: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkWords:
    """Of a `ChunkPoint`, what it is found by in a search by words."""

    text: str
    context: str
    average_length: float = USUAL_LENGTH


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorQuery:
    """A search. `semantic` needs `vector`, `keyword` needs `text`, `hybrid` both.

    With `generation`, only points of that generation are searched and counted for term statistics. Points are found by
    words if one of `analyzers` made them. `dimensions` is the length of the vectors, the store's default unless given.
    With `explain`, hits tell the `parts` of their scores.
    """

    mode: Mode = "hybrid"
    vector: Vector | None = None
    text: str | None = None
    filter: FilterNode | None = None
    generation: int | None = None
    analyzers: tuple[str, ...] = tuple(ANALYZERS)
    dimensions: int | None = None
    limit: int = 10
    offset: int = 0
    explain: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """A ranked chunk. `score` is a cosine (semantic), BM25 (keyword) or of both, from 0 to 1 (hybrid): compare within
    one result."""

    point_id: UUID
    document_id: UUID
    version: int
    generation: int
    chunk_index: int
    score: float
    parts: Parts | None = None

    @property
    def chunk(self) -> tuple[UUID, int, int]:
        return self.document_id, self.version, self.chunk_index


@dataclass(frozen=True, slots=True)
class Tally:
    """How many points one version of a document has in one generation."""

    tenant_id: UUID
    project_id: UUID
    document_id: UUID
    version: int
    generation: int
    points: int


@dataclass(frozen=True, slots=True)
class VersionPoints:
    """The points of one version of a document in one generation."""

    document_id: UUID
    version: int
    generation: int


def point_id(tenant_id: UUID, project_id: UUID, of: ChunkPoint | VersionPoints, chunk_index: int) -> UUID:
    """The same chunk of a generation always has the same id, so writing twice is writing once.

    The project is part of it: no document id, however obtained, can overwrite a point of another project. The
    generation comes last: equal scores are ordered by id, and so the same way in every generation.
    """
    name = f"{tenant_id}:{project_id}:{of.document_id}:{of.version}"
    if of.generation == _FIRST:  # made before generations counted
        return uuid5(_NAMESPACE, f"{name}:{of.generation}:{chunk_index}")
    chunk = uuid5(_NAMESPACE, f"{name}:{chunk_index}")
    return UUID(int=chunk.int >> _GENERATION_BITS << _GENERATION_BITS | of.generation)
