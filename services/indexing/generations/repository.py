"""SQL of generations and of the documents they lack."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Integer, Uuid, bindparam, exists, func, select, update
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.advisory_locks import lock
from services.indexing.documents.models import Chunk, Document
from services.indexing.generations.identity import FIRST, Current, Identity
from services.indexing.generations.models import STORED, Generation, GenerationDocument
from services.indexing.jobs.models import Job
from shared.tenancy import inserting, tenant_of

# The first number of projects that begin with generations. Points under 1 are older, or were written by an older
# version of Quarry beside this one: they are never mixed with those of a generation that says what they are.
_BEGINNING: Final = 2

_OF_PROJECT: Final = Generation.project_id == bindparam("project_id", type_=Uuid())


# --- which generation counts -----------------------------------------------------------------------------------------


async def keep_from_switching(session: AsyncSession, project_id: uuid.UUID) -> None:
    """Until the transaction ends, the project's active generation stays what it is. Comes after locks of documents."""
    await lock(session, _switching(session, project_id), shared=True)


async def begin_switching(session: AsyncSession, project_id: uuid.UUID) -> None:
    """Wait for versions that are going live, and keep others from it until the transaction ends."""
    await lock(session, _switching(session, project_id))


def _switching(session: AsyncSession, project_id: uuid.UUID) -> str:
    return f"indexing:switching:{tenant_of(session)}:{project_id}"


_ACTIVE: Final = select(Generation.number, Generation.embedder, Generation.dimensions, Generation.analyzer).where(
    _OF_PROJECT, Generation.state == "active"
)


async def current(session: AsyncSession, project_id: uuid.UUID) -> Current | None:
    """The generation that search reads; None while nothing was indexed."""
    row = (await session.execute(_ACTIVE, {"project_id": project_id})).one_or_none()
    return None if row is None else Current(row.number, Identity(row.embedder, row.dimensions, row.analyzer))


_IDENTITY: Final = ("embedder", "dimensions", "analyzer")


_NEXT_DAY: Final = func.now() + timedelta(days=1)


def _begin() -> Insert:
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in ("project_id", "number", *_IDENTITY)}
    statement = inserting(Generation).values(
        **values, highest=values["number"], state="active", activated_at=func.now(), due_at=_NEXT_DAY
    )
    return statement.on_conflict_do_nothing()


_BEGIN: Final = _begin()


async def begun(session: AsyncSession, project_id: uuid.UUID, identity: Identity) -> Current:
    """The generation that search reads; the project's first one, of this identity, if there is none.

    A project with documents and no generation was indexed by an older version of Quarry meanwhile.
    """
    found = await current(session, project_id)
    if found is not None:
        return found
    older = await session.scalar(
        select(Document.document_id)
        .where(Document.project_id == project_id, Document.live_version.is_not(None))
        .limit(1)
    )
    made = identity if older is None else FIRST
    await session.execute(
        _BEGIN,
        {
            "new_project_id": project_id,
            "new_number": _BEGINNING if older is None else 1,
            "new_embedder": made.embedder,
            "new_dimensions": made.dimensions,
            "new_analyzer": made.analyzer,
        },
    )
    found = await current(session, project_id)
    assert found is not None  # noqa: S101  # written above, or by another transaction
    return found


async def identities(session: AsyncSession) -> list[Identity]:
    """Of all tenants' generations: what the installation needs to have."""
    rows = await session.execute(
        select(Generation.embedder, Generation.dimensions, Generation.analyzer)
        .where(Generation.state.in_(STORED))
        .distinct()
    )
    return [Identity(*row) for row in rows]


# --- reading ---------------------------------------------------------------------------------------------------------


async def of_project(session: AsyncSession, project_id: uuid.UUID, *, locked: bool = False) -> Sequence[Generation]:
    """Newest first."""
    statement = select(Generation).where(Generation.project_id == project_id).order_by(Generation.number.desc())
    if locked:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    return (await session.scalars(statement)).all()


async def by_number(session: AsyncSession, project_id: uuid.UUID, number: int) -> Generation | None:
    found: Generation | None = await session.scalar(
        select(Generation).where(Generation.project_id == project_id, Generation.number == number)
    )
    return found


_BUILDING: Final = select(Generation.number).where(_OF_PROJECT, Generation.state == "building")


async def building(session: AsyncSession, project_id: uuid.UUID) -> int | None:
    """Number of the generation that is being built."""
    number: int | None = await session.scalar(_BUILDING, {"project_id": project_id})
    return number


async def analyzers(session: AsyncSession, project_id: uuid.UUID) -> dict[int, str]:
    """What made the words of each generation of a project, by its number."""
    return {one.number: one.analyzer for one in await of_project(session, project_id)}


async def numbers(session: AsyncSession, project_id: uuid.UUID) -> set[int]:
    """Those whose points are wanted."""
    return set(
        await session.scalars(
            select(Generation.number).where(Generation.project_id == project_id, Generation.state.in_(STORED))
        )
    )


# --- what a generation lacks -----------------------------------------------------------------------------------------


_LACKING: Final = (
    insert(GenerationDocument)
    .values(
        project_id=bindparam("new_project_id", type_=Uuid()),
        number=bindparam("new_number", type_=Integer()),
        document_id=bindparam("new_document_id", type_=Uuid()),
    )
    .on_conflict_do_update(
        index_elements=["tenant_id", "project_id", "number", "document_id"],
        set_={"revision": func.uuidv7(), "version": None, "next_chunk": 0},
    )
)


async def enqueue(session: AsyncSession, project_id: uuid.UUID, number: int, documents: Collection[uuid.UUID]) -> None:
    """Have points made for documents that a generation lacks, or may lack. One that is waiting begins again."""
    for document_id in sorted(documents):
        await session.execute(
            _LACKING, {"new_project_id": project_id, "new_number": number, "new_document_id": document_id}
        )


async def lacking(session: AsyncSession, project_id: uuid.UUID, number: int, *, most: int) -> int:
    """How many documents are waiting, counted up to `most`."""
    waiting = await session.scalars(
        select(GenerationDocument.document_id)
        .where(GenerationDocument.project_id == project_id, GenerationDocument.number == number)
        .limit(most)
    )
    return len(waiting.all())


# --- comparing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LiveVersion:
    """A document's live version, and how many chunks it has."""

    document_id: uuid.UUID
    version: int
    chunks: int


async def live_versions(
    session: AsyncSession, project_id: uuid.UUID, *, after: uuid.UUID | None, limit: int
) -> list[LiveVersion]:
    """In the order of the documents' ids."""
    chunks = (
        select(func.count())
        .where(Chunk.document_id == Document.document_id, Chunk.version == Document.live_version)
        .correlate(Document)
        .scalar_subquery()
    )
    statement = (
        select(Document.document_id, Document.live_version, chunks)
        .where(Document.project_id == project_id, Document.live_version.is_not(None), Document.deleted.is_(False))
        .order_by(Document.document_id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(Document.document_id > after)
    rows = await session.execute(statement)
    return [LiveVersion(document_id, version, count) for document_id, version, count in rows if version is not None]


async def total_chunks(session: AsyncSession, project_id: uuid.UUID) -> int:
    """Of all live versions, as their jobs have counted them."""
    counted = await session.scalar(
        select(func.sum(Job.chunk_count))
        .join(Document, (Document.document_id == Job.document_id) & (Document.live_version == Job.version))
        .where(Document.project_id == project_id, Document.deleted.is_(False))
    )
    return int(counted or 0)


async def states(session: AsyncSession, documents: Collection[uuid.UUID]) -> dict[uuid.UUID, tuple[int | None, bool]]:
    """Of those documents that are known: the live version, and whether any version is being indexed."""
    under_way = exists().where(
        Job.document_id == Document.document_id,
        Job.state.not_in(("indexed", "failed", "cancelled")),
    )
    rows = await session.execute(
        select(Document.document_id, Document.live_version, Document.deleted, under_way).where(
            Document.document_id.in_(documents)
        )
    )
    return {
        document_id: (None if deleted else live_version, indexing)
        for document_id, live_version, deleted, indexing in rows
    }


# --- progress --------------------------------------------------------------------------------------------------------


async def advance(session: AsyncSession, project_id: uuid.UUID, number: int, chunks: int) -> None:
    """Count chunks that have points now; whatever failed before goes on."""
    await session.execute(
        update(Generation)
        .where(Generation.project_id == project_id, Generation.number == number)
        .values(done=Generation.done + chunks, error=None)
        .execution_options(synchronize_session=False)
    )


async def note_error(session: AsyncSession, project_id: uuid.UUID, number: int, error: Exception) -> None:
    """Note for operators why the last step failed: the error's `reason`, where it has one."""
    reason = getattr(error, "reason", "") or f"{type(error).__name__}: {error}"
    await session.execute(
        update(Generation)
        .where(Generation.project_id == project_id, Generation.number == number)
        .values(error=reason[:300])
        .execution_options(synchronize_session=False)
    )
