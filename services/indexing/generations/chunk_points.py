"""The point that a chunk becomes: in one place, so that every generation has the same."""

from services.indexing.documents.models import Document
from services.indexing.embedders import Vectors
from services.indexing.generations.identity import Current
from services.indexing.pipeline.chunk_context import found_by
from services.indexing.pipeline.documents import Chunk
from services.indexing.vectors.points import ChunkPoint


def point_of(
    document: Document,
    version: int,
    chunk: Chunk,
    vector: Vectors,
    *,
    generation: Current,
    language: str | None,
    average_length: float,
) -> ChunkPoint:
    """`language`: of the version; `average_length`: of the project's chunks (`documents.chunk_lengths`)."""
    return ChunkPoint(
        document_id=document.document_id,
        version=version,
        chunk_index=chunk.index,
        generation=generation.number,
        analyzer=generation.identity.analyzer,
        average_length=average_length,
        vector=vector,
        text=chunk.text,
        context=found_by(document.name, chunk),
        content_type=document.content_type,
        created_at=document.created_at,
        metadata=document.attributes,
        name=document.name,
        language=language,
    )
