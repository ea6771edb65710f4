"""SQL of the document that others are compared with."""

import uuid
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Uuid, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents.models import Chunk, Document
from shared.project_access import OF_PROJECT, Admission, admitted


@dataclass(frozen=True, slots=True)
class Source:
    """A document's live version, if it has one: how many chunks it has, and the words it begins with, with its title
    and headings."""

    version: int | None
    chunks: int
    beginning: str


_OF_LIVE_VERSION: Final = (
    Chunk.tenant_id == Document.tenant_id,
    Chunk.document_id == Document.document_id,
    Chunk.version == Document.live_version,
)
_LAST: Final = (
    select(Chunk.chunk_index)
    .where(*_OF_LIVE_VERSION)
    .order_by(Chunk.chunk_index.desc())
    .limit(1)
    .correlate(Document)
    .scalar_subquery()
)
_BEGINNING: Final = (
    select(func.coalesce(Chunk.context, "") + "\n" + Chunk.text)
    .where(*_OF_LIVE_VERSION)
    .order_by(Chunk.chunk_index)
    .limit(1)
    .correlate(Document)
    .scalar_subquery()
)
_SOURCE: Final = admitted(
    select(Document.live_version, _LAST, _BEGINNING)
    .select_from(Document)
    .where(
        Document.document_id == bindparam("document_id", type_=Uuid()),
        Document.project_id == OF_PROJECT,
        Document.deleted.is_(False),
    )
)


async def source(session: AsyncSession, admission: Admission, document_id: uuid.UUID) -> Source | None:
    """None for a document that is not known here.

    Raises:
        NotFound, Forbidden, Unavailable: see `Admission.rows`.
    """
    rows = await admission.rows(session, _SOURCE, {"document_id": document_id})
    if not rows:
        return None
    version, last, beginning = rows[0]
    return Source(version, 0 if last is None else last + 1, beginning or "")
