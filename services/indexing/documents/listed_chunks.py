"""The chunks of a document's live version as clients list them, in the order of the text.

A cursor names the document and the version that it pages through. When a newer one is live, `VersionReplaced` tells the
client to begin again: a list is never of two versions.
"""

import base64
import binascii
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import Integer, Uuid, bindparam, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents.errors import VersionReplaced
from services.indexing.documents.models import Chunk, Document
from shared.pagination import InvalidCursor
from shared.project_access import OF_PROJECT, Admission, admitted

_MOST: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Position:
    """The last chunk that was listed, of a version of a document."""

    document_id: uuid.UUID
    version: int
    chunk_index: int

    def encode(self) -> str:
        content = orjson.dumps([str(self.document_id), self.version, self.chunk_index])
        return base64.urlsafe_b64encode(content).decode().rstrip("=")

    @classmethod
    def decode(cls, cursor: str, document_id: uuid.UUID) -> "Position":
        """Raises InvalidCursor: not something `encode` made for the document."""
        try:
            found = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        except (ValueError, binascii.Error) as error:
            raise InvalidCursor from error
        match found:
            case [str(named), int(version), int(index)] if (
                named == str(document_id) and 0 < version <= _MOST and 0 <= index <= _MOST
            ):
                return cls(document_id, version, index)
        raise InvalidCursor


@dataclass(frozen=True, slots=True)
class ListedChunk:
    """`start` and `end` are code points of the version's extracted text."""

    chunk_index: int
    start: int
    end: int
    text: str
    page: int | None
    location: Any


@dataclass(frozen=True, slots=True)
class Listed:
    """`version` is None, and there are no chunks, while no version is live."""

    version: int | None
    chunks: Sequence[ListedChunk]


# A subquery with its own order and limit, so that a late page reads no more of a long document than an early one.
_PAGE: Final = (
    select(
        *(Chunk.chunk_index, Chunk.start_offset, Chunk.end_offset, Chunk.text, Chunk.page, Chunk.location),
    )
    .where(
        Chunk.tenant_id == Document.tenant_id,
        Chunk.document_id == Document.document_id,
        Chunk.version == Document.live_version,
        Chunk.chunk_index > bindparam("after", type_=Integer()),
    )
    .order_by(Chunk.chunk_index)
    .limit(bindparam("most", type_=Integer()))
    .correlate(Document)
    .lateral("page")
)
_LISTED: Final = admitted(
    select(Document.live_version, *_PAGE.c)
    .select_from(Document)
    .outerjoin(_PAGE, true())
    .where(
        Document.document_id == bindparam("document_id", type_=Uuid()),
        Document.project_id == OF_PROJECT,
        Document.deleted.is_(False),
    )
    .order_by(_PAGE.c.chunk_index)
)


async def after(
    session: AsyncSession, admission: Admission, document_id: uuid.UUID, position: Position | None, *, limit: int
) -> Listed | None:
    """Up to `limit` chunks after a position (None: from the first); None for a document that is not known here.

    Raises:
        VersionReplaced: the position is in a version that is not the live one.
        NotFound, Forbidden, Unavailable: see `Admission.rows`.
    """
    last = -1 if position is None else position.chunk_index
    values = {"document_id": document_id, "after": last, "most": limit}
    rows = await admission.rows(session, _LISTED, values)
    if not rows:
        return None
    version = rows[0][0]
    if position is not None and position.version != version:
        raise VersionReplaced
    return Listed(version, [ListedChunk(*row[1:]) for row in rows if row[1] is not None])
