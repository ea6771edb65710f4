"""Chunks for the tests of the vector store: cheap, deterministic, with vectors that follow their words."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID, uuid4

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue, TypeAdapter

from services.indexing.analysis import CURRENT
from services.indexing.vectors.engine import EnginePoint
from services.indexing.vectors.filters import Filter, FilterNode
from services.indexing.vectors.points import ChunkPoint

DIMENSIONS = 384
FILTERS: TypeAdapter[FilterNode] = TypeAdapter(Filter)


def vector_of(text: str) -> npt.NDArray[np.float32]:
    """A sum of one random direction per word: texts that share words lie closer."""
    total = np.zeros(DIMENSIONS, dtype=np.float32)
    for word in text.lower().split():
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
        total += np.random.default_rng(seed).standard_normal(DIMENSIONS, dtype=np.float32)
    return total


def chunk(
    text: str = "a plain sentence",
    *,
    document_id: UUID | None = None,
    version: int = 1,
    chunk_index: int = 0,
    generation: int = 1,
    content_type: str = "text/plain",
    created_at: datetime = datetime(2024, 5, 1, 12, tzinfo=UTC),
    metadata: Mapping[str, JsonValue] | None = None,
    context: str = "",
    name: str = "",
    language: str | None = None,
) -> ChunkPoint:
    return ChunkPoint(
        document_id=document_id or uuid4(),
        version=version,
        chunk_index=chunk_index,
        generation=generation,
        vector=vector_of(text),
        text=text,
        context=context,
        content_type=content_type,
        created_at=created_at,
        metadata=metadata or {},
        name=name,
        language=language,
    )


def engine_points(owner: str, count: int, word: str = "salt") -> list[EnginePoint]:
    """Of a tenant of that id, past the facade."""
    identity = {"project_id": owner, "document_id": owner, "version": 1, "generation": 1, "chunk_index": 0}
    payload: dict[str, object] = {"tenant_id": owner, **identity}
    vector = [float(number) for number in vector_of(word)]
    return [
        EnginePoint(
            id=str(uuid4()),
            vector=vector,
            text=word,
            context="",
            analyzer=CURRENT,
            average_length=4.0,
            payload=payload,
        )
        for _ in range(count)
    ]


def parsed(value: JsonValue) -> FilterNode:
    return FILTERS.validate_python(value)
