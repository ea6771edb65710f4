"""SQL of documents, their chunks, and what the vector store is owed."""

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents.models import Chunk, Document, EmbeddedBatch, VectorChange


async def locked(session: AsyncSession, document_id: uuid.UUID, *, shared: bool = False) -> Document | None:
    """The document, as it stays until the transaction ends. Every transaction locks it before its jobs."""
    document: Document | None = await session.scalar(
        select(Document)
        .where(Document.document_id == document_id)
        .with_for_update(read=shared)
        .execution_options(populate_existing=True)
    )
    return document


async def learn(
    session: AsyncSession,
    *,
    document_id: uuid.UUID,
    project_id: uuid.UUID,
    version: int,
    name: str,
    content_type: str,
    metadata: dict[str, Any],
    sequence: int,
    created_at: datetime,
) -> Document:
    """Store what an upload says, unless something newer is stored; gives the row, locked, as it is now."""
    statement = insert(Document).values(
        document_id=document_id,
        project_id=project_id,
        version=version,
        name=name,
        content_type=content_type,
        attributes=metadata,
        sequence=sequence,
        created_at=created_at,
    )
    new = statement.excluded
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "document_id"],
            set_={
                "version": new.version,
                "name": new.name,
                "content_type": new.content_type,
                "metadata": new["metadata"],
                "sequence": new.sequence,
                "created_at": new.created_at,
            },
            where=(Document.sequence < new.sequence) & ~Document.deleted,
        )
    )
    document = await locked(session, document_id)
    assert document is not None  # noqa: S101  # written above, in this transaction
    return document


async def bury(
    session: AsyncSession,
    *,
    document_id: uuid.UUID,
    project_id: uuid.UUID,
    version: int,
    sequence: int,
    at: datetime,
) -> None:
    """Leave a tombstone, whether the document was known or not, and remove what was made of it."""
    gone: dict[str, Any] = {"deleted": True, "live_version": None, "name": "", "attributes": {}, "sequence": sequence}
    statement = insert(Document).values(
        document_id=document_id, project_id=project_id, version=version, content_type="", created_at=at, **gone
    )
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "document_id"],
            set_={
                "deleted": True,
                "live_version": None,
                "name": "",
                "metadata": statement.excluded["metadata"],
                "sequence": func.greatest(Document.sequence, sequence),
            },
        )
    )
    await session.execute(delete(EmbeddedBatch).where(EmbeddedBatch.document_id == document_id))
    await session.execute(delete(Chunk).where(Chunk.document_id == document_id))


async def bury_all(session: AsyncSession) -> None:
    """The same for every document of the tenant."""
    await session.execute(
        update(Document)
        .where(Document.deleted.is_(False))
        .values(deleted=True, live_version=None, name="", attributes={})
        .execution_options(synchronize_session=False)
    )
    await session.execute(delete(EmbeddedBatch).execution_options(synchronize_session=False))
    await session.execute(delete(Chunk).execution_options(synchronize_session=False))


async def owe(session: AsyncSession, document_id: uuid.UUID | None, *, describe: bool = False) -> None:
    """Note that the vector store no longer agrees with a document's row, or (None) holds a tenant that is gone."""
    await session.execute(insert(VectorChange).values(document_id=document_id, describe=describe))


# --- chunks ----------------------------------------------------------------------------------------------------------


async def add_chunks(session: AsyncSession, chunks: Sequence[dict[str, Any]]) -> None:
    await session.execute(insert(Chunk), chunks)


async def chunks_of(session: AsyncSession, document_id: uuid.UUID, version: int) -> Sequence[Chunk]:
    return (
        await session.scalars(
            select(Chunk).where(Chunk.document_id == document_id, Chunk.version == version).order_by(Chunk.chunk_index)
        )
    ).all()


async def drop_version(session: AsyncSession, document_id: uuid.UUID, version: int) -> None:
    """Remove the chunks and kept embeddings of one version."""
    await drop_batches(session, document_id, version)
    await session.execute(delete(Chunk).where(Chunk.document_id == document_id, Chunk.version == version))


async def drop_batches(session: AsyncSession, document_id: uuid.UUID, version: int) -> None:
    await session.execute(
        delete(EmbeddedBatch).where(EmbeddedBatch.document_id == document_id, EmbeddedBatch.version == version)
    )


async def add_batch(session: AsyncSession, **values: Any) -> None:
    await session.execute(insert(EmbeddedBatch).values(**values).on_conflict_do_nothing())


async def batches_of(
    session: AsyncSession, document_id: uuid.UUID, version: int, model: str
) -> Sequence[EmbeddedBatch]:
    return (
        await session.scalars(
            select(EmbeddedBatch)
            .where(
                EmbeddedBatch.document_id == document_id,
                EmbeddedBatch.version == version,
                EmbeddedBatch.model == model,
            )
            .order_by(EmbeddedBatch.first_index)
        )
    ).all()


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk as search shows it: columns alone, since a search reads many and changes none."""

    document_id: uuid.UUID
    version: int
    chunk_index: int
    text: str
    page: int | None
    document_name: str
    metadata: dict[str, Any]


_PASSAGE = (
    *(Chunk.document_id, Chunk.version, Chunk.chunk_index, Chunk.text, Chunk.page),
    *(Document.name, Document.attributes),
)


async def live_passages(
    session: AsyncSession, project_id: uuid.UUID, keys: Iterable[tuple[uuid.UUID, int, int]]
) -> list[Passage]:
    """Chunks by (document, version, index), as far as they are live in the project; in no particular order."""
    rows = await session.execute(
        select(*_PASSAGE)
        .join(Document, Document.document_id == Chunk.document_id)
        .where(
            tuple_(Chunk.document_id, Chunk.version, Chunk.chunk_index).in_(list(keys)),
            Document.project_id == project_id,
            Document.live_version == Chunk.version,
            Document.deleted.is_(False),
        )
    )
    return [Passage(*row) for row in rows]


async def live_versions(session: AsyncSession, document_ids: Collection[uuid.UUID]) -> Sequence[Document]:
    """Those of the documents that search may show."""
    return (
        await session.scalars(
            select(Document).where(
                Document.document_id.in_(document_ids),
                Document.live_version.is_not(None),
                Document.deleted.is_(False),
            )
        )
    ).all()
