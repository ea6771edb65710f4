"""SQL of documents, their chunks, and vector changes."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    Select,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    column,
    delete,
    func,
    inspect,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.advisory_locks import lock
from services.indexing.documents.models import Chunk, DeletedTenant, Document, EmbeddedBatch, VectorChange
from shared.project_access import OF_PROJECT, Admission, admitted
from shared.tenancy import inserting, tenant_of

_TOMBSTONE: Final = select(DeletedTenant.tenant_id)


_OF_DOCUMENT: Final = Document.document_id == bindparam("document_id", type_=Uuid())
_BY_ID: Final = select(Document).where(_OF_DOCUMENT)
_LOCKED: Final = {
    shared: _BY_ID.with_for_update(read=shared).execution_options(populate_existing=True) for shared in (False, True)
}


async def locked(session: AsyncSession, document_id: uuid.UUID, *, shared: bool = False) -> Document | None:
    """The document, locked until the transaction ends. Every transaction locks it before its jobs."""
    document: Document | None = await session.scalar(_LOCKED[shared], {"document_id": document_id})
    return document


_FROM_EVENT: Final = ("project_id", "version", "name", "content_type", "metadata", "sequence", "created_at")


def _upsert() -> Insert:
    statement = inserting(Document).values({name: bindparam(f"new_{name}") for name in ("document_id", *_FROM_EVENT)})
    new, old = statement.excluded, statement.table.c
    return statement.on_conflict_do_update(
        index_elements=["tenant_id", "document_id"],
        set_={name: new[name] for name in _FROM_EVENT},
        where=(old.sequence < new.sequence) & ~old.deleted,
    )


_UPSERT: Final = _upsert()


async def upsert_from_event(
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
    """Store the facts of an upload, unless newer ones are stored; returns the current row, locked."""
    await session.execute(
        _UPSERT,
        {
            "new_document_id": document_id,
            "new_project_id": project_id,
            "new_version": version,
            "new_name": name,
            "new_content_type": content_type,
            "new_metadata": metadata,
            "new_sequence": sequence,
            "new_created_at": created_at,
        },
    )
    document = await locked(session, document_id)
    assert document is not None  # noqa: S101  # written above, in this transaction
    return document


async def tombstone(
    session: AsyncSession,
    *,
    document_id: uuid.UUID,
    project_id: uuid.UUID,
    version: int,
    sequence: int,
    at: datetime,
) -> None:
    """Leave a tombstone, whether the document was known or not. Its chunks are removed in pieces
    (`documents.erasure`)."""
    gone: dict[str, Any] = {
        **{"deleted": True, "live_version": None, "name": "", "title": None, "language": None},
        "attributes": {},
        "sequence": sequence,
    }
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
                "title": None,
                "language": None,
                "metadata": statement.excluded["metadata"],
                "sequence": func.greatest(Document.sequence, sequence),
            },
        )
    )


async def tenant_exists(session: AsyncSession) -> bool:
    """Whether the tenant is not deleted; if so, it cannot be deleted until this transaction ends."""
    await lock(session, f"indexing:tenant:{tenant_of(session)}", shared=True)
    return await session.scalar(_TOMBSTONE) is None


async def tombstone_tenant(session: AsyncSession) -> None:
    """Leave its tombstone, once all transactions that found the tenant to exist have ended."""
    await lock(session, f"indexing:tenant:{tenant_of(session)}")
    await session.execute(
        insert(DeletedTenant).values(deleted_at=func.now()).on_conflict_do_nothing(index_elements=["tenant_id"])
    )


async def enqueue_vector_change(
    session: AsyncSession, document_id: uuid.UUID | None, *, describe: bool = False
) -> None:
    """Record that the vector store no longer agrees with a document's row, or (None) holds a deleted tenant.

    Merged into a pending change, which then counts as not yet applied.
    """
    statement = insert(VectorChange).values(
        id=document_id or tenant_of(session), document_id=document_id, describe=describe
    )
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "id"],
            set_={
                "describe": VectorChange.describe | statement.excluded.describe,
                "revision": func.uuidv7(),
                "position": None,
            },
        )
    )


async def keep_from_beginning(session: AsyncSession, document_id: uuid.UUID) -> None:
    """Block versions of the document from beginning until the transaction ends; it sees all that have begun."""
    await lock(session, _beginning(session, document_id))


async def begin(session: AsyncSession, document_id: uuid.UUID) -> None:
    """Wait for transactions that keep versions from beginning. Comes before every other lock."""
    await lock(session, _beginning(session, document_id), shared=True)


def _beginning(session: AsyncSession, document_id: uuid.UUID) -> str:
    return f"indexing:beginning:{tenant_of(session)}:{document_id}"


async def by_id(session: AsyncSession, document_id: uuid.UUID) -> Document | None:
    document: Document | None = await session.scalar(_BY_ID, {"document_id": document_id})
    return document


_LENGTHS: Final = select(
    func.coalesce(func.sum(Document.indexed_chunks), 0), func.coalesce(func.sum(Document.indexed_characters), 0)
).where(Document.project_id == bindparam("project_id", type_=Uuid()), Document.deleted.is_(False))


async def indexed_lengths(session: AsyncSession, project_id: uuid.UUID) -> tuple[int, int]:
    """How many chunks and characters the live versions of a project's documents have."""
    chunks, characters = (await session.execute(_LENGTHS, {"project_id": project_id})).one()
    return int(chunks), int(characters)


# --- chunks ----------------------------------------------------------------------------------------------------------


_CHUNK_COLUMNS: Final = tuple(column for column in inspect(Chunk).columns if column.server_default is None)


def _add_chunks() -> Insert:
    # An array per column, not parameters per row: those took most of the time for a book's many rows.
    arrays = (bindparam(f"all_{column.name}", type_=ARRAY(column.type)) for column in _CHUNK_COLUMNS)
    rows = func.unnest(*arrays).table_valued(*_CHUNK_COLUMNS).render_derived()
    return inserting(Chunk).from_select([column.name for column in _CHUNK_COLUMNS], select(*rows.c))


_ADD_CHUNKS: Final = _add_chunks()


async def add_chunks(session: AsyncSession, chunks: Sequence[dict[str, Any]]) -> None:
    """Rows with a value for each of `_CHUNK_COLUMNS` that may not be null."""
    arrays = {f"all_{column.name}": [chunk.get(column.name) for chunk in chunks] for column in _CHUNK_COLUMNS}
    await session.execute(_ADD_CHUNKS, arrays)


async def chunks_from(
    session: AsyncSession, document_id: uuid.UUID, version: int, *, first: int, limit: int
) -> Sequence[tuple[int, int, int, str, int | None, Any, str]]:
    """Index, start, end, text, page, location and context of chunks of a version, from the one with index `first`."""
    rows = await session.execute(
        select(
            *(Chunk.chunk_index, Chunk.start_offset, Chunk.end_offset, Chunk.text, Chunk.page),
            *(Chunk.location, func.coalesce(Chunk.context, "")),
        )
        .where(Chunk.document_id == document_id, Chunk.version == version, Chunk.chunk_index >= first)
        .order_by(Chunk.chunk_index)
        .limit(limit)
    )
    return [
        (index, start, end, text, page, location, context) for index, start, end, text, page, location, context in rows
    ]


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
    """A chunk as search shows it: plain columns, since a search reads many and changes none. `location` and `metadata`
    are JSON, not parsed in the event loop."""

    document_id: uuid.UUID
    version: int
    chunk_index: int
    text: str
    page: int | None
    location: str | None
    document_name: str
    document_title: str | None
    metadata: str


@dataclass(frozen=True, slots=True)
class Described:
    """A document as facets count it; `metadata` is JSON, or empty when it was not requested."""

    document_id: uuid.UUID
    version: int
    content_type: str
    metadata: str


_METADATA: Final = cast(Document.attributes, Text)
# Rows that are older than locations know their page.
_LOCATION: Final = func.coalesce(
    cast(Chunk.location, Text),
    case((Chunk.page.is_not(None), cast(func.jsonb_build_object("page", Chunk.page), Text))),
)
KEYS: Final = (
    func.unnest(
        bindparam("documents", type_=ARRAY(Uuid())),
        bindparam("versions", type_=ARRAY(Integer())),
        bindparam("indexes", type_=ARRAY(Integer())),
    )
    .table_valued(column("document_id", Uuid()), column("version", Integer()), column("chunk_index", Integer()))
    .render_derived("keys")
)
"""Keys of chunks, as arrays: it is one statement however many there are. See `key_arrays`."""

_LIVE_PASSAGES: Final = admitted(
    select(
        *(Chunk.document_id, Chunk.version, Chunk.chunk_index, Chunk.text, Chunk.page, _LOCATION),
        *(Document.name, Document.title, _METADATA),
    )
    .join(Document, Document.document_id == Chunk.document_id)
    .join(
        KEYS,
        (KEYS.c.document_id == Chunk.document_id)
        & (KEYS.c.version == Chunk.version)
        & (KEYS.c.chunk_index == Chunk.chunk_index),
    )
    .where(
        Document.project_id == OF_PROJECT,
        Document.live_version == Chunk.version,
        Document.deleted.is_(False),
    )
)


async def live_passages(
    session: AsyncSession, admission: Admission, keys: Collection[tuple[uuid.UUID, int, int]]
) -> list[Passage]:
    """Chunks by (document, version, index), as far as they are live in the project and the admitted caller may still
    see them; in no particular order.

    Raises:
        NotFound, Forbidden, Unavailable: see `Admission.rows`.
    """
    return [Passage(*row) for row in await admission.rows(session, _LIVE_PASSAGES, key_arrays(keys))]


def key_arrays(keys: Collection[tuple[uuid.UUID, int, int]]) -> dict[str, list[Any]]:
    """Values of the parameters of `KEYS`: documents, versions and indexes of chunks."""
    documents, versions, indexes = zip(*keys, strict=True) if keys else ((), (), ())
    return {"documents": list(documents), "versions": list(versions), "indexes": list(indexes)}


def _described(metadata: ColumnElement[str]) -> Select[*tuple[Any, ...]]:
    return admitted(
        select(Document.document_id, Document.live_version, Document.content_type, metadata)
        .select_from(Document)
        .where(
            Document.document_id == func.any(bindparam("documents", type_=ARRAY(Uuid()))),
            Document.project_id == OF_PROJECT,
            Document.live_version.is_not(None),
            Document.deleted.is_(False),
        )
    )


_DESCRIBED: Final = {True: _described(_METADATA), False: _described(literal(""))}


async def described(
    session: AsyncSession, admission: Admission, document_ids: Collection[uuid.UUID], *, with_metadata: bool
) -> list[Described]:
    """Those of the project's documents that search may show to the admitted caller, in no particular order.

    Raises:
        NotFound, Forbidden, Unavailable: see `Admission.rows`.
    """
    rows = await admission.rows(session, _DESCRIBED[with_metadata], {"documents": list(document_ids)})
    return [
        Described(document_id, version, content_type, metadata)
        for document_id, version, content_type, metadata in rows
        if version is not None
    ]
