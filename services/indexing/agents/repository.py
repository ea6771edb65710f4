"""SQL of what agents read: chunks of live versions, with their places in the text and the hash of the version.

Each statement also checks the permission of the caller on whose behalf it reads (`shared.project_access.Admission`).
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Integer, Select, Uuid, bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents.models import Chunk, Document
from services.indexing.documents.repository import KEYS, key_arrays
from services.indexing.jobs.models import Job
from shared.project_access import OF_PROJECT, Admission, admitted

MOST_CHUNKS: Final = 400
"""How many chunks of a document are read at a time."""


@dataclass(frozen=True, slots=True)
class PlacedChunk:
    """A chunk of a live version: `text` is `[start, end)` of the extracted text."""

    document_id: uuid.UUID
    version: int
    chunk_index: int
    start: int
    end: int
    text: str
    page: int | None
    document_name: str
    sha256: str | None


def _placed() -> Select[*tuple[Any, ...]]:
    """Chunks of live versions of the project."""
    return (
        select(
            *(Chunk.document_id, Chunk.version, Chunk.chunk_index, Chunk.start_offset, Chunk.end_offset, Chunk.text),
            *(Chunk.page, Document.name, Job.sha256),
        )
        .join(Document, Document.document_id == Chunk.document_id)
        .outerjoin(Job, (Job.document_id == Chunk.document_id) & (Job.version == Chunk.version))
        .where(
            Document.project_id == OF_PROJECT,
            Document.live_version == Chunk.version,
            Document.deleted.is_(False),
        )
    )


_BY_KEY: Final = admitted(
    _placed().join(
        KEYS,
        (KEYS.c.document_id == Chunk.document_id)
        & (KEYS.c.version == Chunk.version)
        & (KEYS.c.chunk_index == Chunk.chunk_index),
    )
)
_OF_DOCUMENT: Final = (
    admitted(_placed())
    .where(Chunk.document_id == bindparam("document_id", type_=Uuid()))
    .order_by(Chunk.chunk_index)
    .limit(MOST_CHUNKS)
)
_IN_RANGE: Final = _OF_DOCUMENT.where(
    Chunk.version == bindparam("version", type_=Integer()),
    Chunk.start_offset < bindparam("range_end", type_=Integer()),
    Chunk.end_offset > bindparam("range_start", type_=Integer()),
)


async def chunks_by_key(
    session: AsyncSession, admission: Admission, keys: Collection[tuple[uuid.UUID, int, int]]
) -> dict[tuple[uuid.UUID, int, int], PlacedChunk]:
    """Those of the chunks, by (document, version, index), that are live in the project.

    Raises:
        NotFound, Forbidden, Unavailable: see `Admission.rows`.
    """
    rows = [PlacedChunk(*row) for row in await admission.rows(session, _BY_KEY, key_arrays(keys))]
    return {(chunk.document_id, chunk.version, chunk.chunk_index): chunk for chunk in rows}


async def first_chunks(session: AsyncSession, admission: Admission, document_id: uuid.UUID) -> Sequence[PlacedChunk]:
    """The first chunks of the live version of a document, in order. Raises as `chunks_by_key`."""
    rows = await admission.rows(session, _OF_DOCUMENT, {"document_id": document_id})
    return [PlacedChunk(*row) for row in rows]


async def chunks_in_range(
    session: AsyncSession, admission: Admission, document_id: uuid.UUID, version: int, start: int, end: int
) -> Sequence[PlacedChunk]:
    """Chunks that touch `[start, end)` of a version, in order, if it is the live one. Raises as `chunks_by_key`."""
    values = {"document_id": document_id, "version": version, "range_start": start, "range_end": end}
    return [PlacedChunk(*row) for row in await admission.rows(session, _IN_RANGE, values)]
