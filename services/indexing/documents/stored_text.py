"""The text of a document's live version, as its chunks hold it.

Chunks are exact slices of the extracted text and keep their offsets. What lies between two of them (white space, and
signs that belong to no word) is not stored: here it is white space of the same length, so that places in what is read
and places in the extracted text differ by `start` alone.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Integer, Text, Uuid, bindparam, cast, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents.models import Chunk, Document
from shared.errors import NotFound
from shared.project_access import OF_PROJECT, Admission, admitted

# However short they are. Usually one reading is enough.
MOST_CHUNKS: Final = 2_048
_READ_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class DocumentText:
    """A document with a live version. `characters`: up to where its chunks reach; 0 when it has none. `metadata` is
    JSON."""

    version: int
    name: str
    content_type: str
    created_at: datetime
    metadata: str
    characters: int


@dataclass(frozen=True, slots=True)
class Extract:
    """Part of a text, from `start` to `end` in code points of the extracted text. `next_chunk`: the first chunk after
    it, None at the end."""

    text: str
    start: int
    end: int
    next_chunk: int | None


_OF_DOCUMENT: Final = Document.document_id == bindparam("document_id", type_=Uuid())
_LIVE: Final = (_OF_DOCUMENT, Document.project_id == OF_PROJECT, Document.deleted.is_(False))
_CHARACTERS: Final = (
    select(Chunk.end_offset)
    .where(
        Chunk.tenant_id == Document.tenant_id,
        Chunk.document_id == Document.document_id,
        Chunk.version == Document.live_version,
    )
    .order_by(Chunk.chunk_index.desc())
    .limit(1)
    .correlate(Document)
    .scalar_subquery()
)
_DESCRIBED: Final = admitted(
    select(
        *(Document.live_version, Document.name, Document.content_type, Document.created_at),
        *(cast(Document.attributes, Text), _CHARACTERS),
    )
    .select_from(Document)
    .where(*_LIVE, Document.live_version.is_not(None))
)
_CHUNKS: Final = admitted(
    select(Chunk.chunk_index, Chunk.start_offset, Chunk.end_offset, Chunk.text)
    .join(Document, Document.document_id == Chunk.document_id)
    .where(
        *_LIVE,
        Document.live_version == Chunk.version,
        Chunk.version == bindparam("version", type_=Integer()),
        Chunk.chunk_index >= bindparam("first", type_=Integer()),
    )
    .order_by(Chunk.chunk_index)
    .limit(_READ_AT_ONCE)
)


async def describe(session: AsyncSession, admission: Admission, document_id: uuid.UUID) -> DocumentText:
    """The live version of a document of the project.

    Raises:
        NotFound: there is no such document, or nothing of it is indexed.
        NotFound, Forbidden, Unavailable: see `Admission.rows`.
    """
    rows = await admission.rows(session, _DESCRIBED, {"document_id": document_id})
    if not rows:
        raise NotFound
    version, name, content_type, created_at, metadata, characters = rows[0]
    return DocumentText(version, name, content_type, created_at, metadata, characters or 0)


async def read(
    session: AsyncSession, admission: Admission, document_id: uuid.UUID, version: int, *, first: int, most: int
) -> Extract:
    """The text from chunk `first` on, whole chunks, at most `most` characters unless one chunk is longer.

    Raises:
        NotFound: the version is not the live one any more, or has no such chunk.
        NotFound, Forbidden, Unavailable: see `Admission.rows`.
    """
    found: list[Sequence[Any]] = []
    while len(found) < MOST_CHUNKS:
        values = {"document_id": document_id, "version": version, "first": first + len(found)}
        rows = await admission.rows(session, _CHUNKS, values)
        found += rows
        if len(rows) < _READ_AT_ONCE or found[-1][2] - found[0][1] > most:
            break
    if not found:
        raise NotFound
    return _joined(found, most)


def _joined(rows: Sequence[Sequence[Any]], most: int) -> Extract:
    """Rows of index, start, end and text, in order."""
    begin, end = rows[0][1], rows[0][1]
    parts: list[str] = []
    for index, start_offset, end_offset, text in rows:
        if parts and end_offset - begin > most:
            return Extract("".join(parts), begin, end, index)
        between = start_offset - end
        parts += [" " if between == 1 else "\n" * between, text]
        end = end_offset
    return Extract("".join(parts), begin, end, rows[-1][0] + 1 if len(rows) >= MOST_CHUNKS else None)
