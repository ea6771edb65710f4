"""SQL of documents."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Integer, Text, Uuid, and_, bindparam, func, literal_column, select, true, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from services.projects.documents.models import BlobDeletion, Document, DocumentStatus
from services.projects.exports.models import Export
from services.projects.versions.models import DocumentVersion
from shared.prepared_statements import PreparedStatement, rows_of
from shared.tenancy import tenant_of
from shared.work_queue import Retry, WorkQueue

Position = tuple[datetime, uuid.UUID]

BLOB_DELETIONS: Final = WorkQueue(
    BlobDeletion,
    due_at=BlobDeletion.due_at,
    claim=timedelta(seconds=10),
    attempts=BlobDeletion.attempts,
    retry=Retry(timedelta(seconds=2), timedelta(hours=1)),
)

_BY_ID: Final = select(Document).where(
    Document.project_id == bindparam("project_id"),
    Document.id == bindparam("document_id"),
    Document.deleted_at.is_(None),
)
_BY_ID_LOCKED: Final = _BY_ID.with_for_update(key_share=True)


async def by_id(
    session: AsyncSession, *, project_id: uuid.UUID, document_id: uuid.UUID, lock: bool = False
) -> Document | None:
    """A document that is not deleted."""
    return await session.scalar(
        _BY_ID_LOCKED if lock else _BY_ID, {"project_id": project_id, "document_id": document_id}
    )


async def page_for_project(
    session: AsyncSession,
    *,
    project_id: uuid.UUID,
    status: DocumentStatus | None,
    name: str | None,
    sha256: str | None,
    batch_id: uuid.UUID | None,
    after: Position | None,
    count: int,
) -> Sequence[Document]:
    """Documents of a project, newest first."""
    statement = select(Document).where(Document.project_id == project_id, Document.deleted_at.is_(None))
    for column, value in (
        (Document.status, status),
        (Document.name, name),
        (Document.sha256, sha256),
        (Document.batch_id, batch_id),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if after is not None:
        statement = statement.where(tuple_(Document.created_at, Document.id) < after)
    statement = statement.order_by(Document.created_at.desc(), Document.id.desc()).limit(count)
    return (await session.scalars(statement)).all()


# --- many at once ----------------------------------------------------------------------------------------------------


def criteria(
    *,
    status: Sequence[DocumentStatus] | None,
    name: str | None,
    batch_id: uuid.UUID | None,
    metadata: dict[str, Any] | None,
) -> ColumnElement[bool]:
    """Documents for which all that is not None holds."""
    conditions: list[ColumnElement[bool]] = []
    if status is not None:
        conditions.append(Document.status.in_(status))
    if name is not None:
        conditions.append(Document.name == name)
    if batch_id is not None:
        conditions.append(Document.batch_id == batch_id)
    if metadata is not None:
        conditions.append(Document.custom_metadata.contains(metadata))
    return and_(true(), *conditions)


async def looked_at(
    session: AsyncSession, wanted: ColumnElement[bool], *, project_id: uuid.UUID, after: Position | None, count: int
) -> list[tuple[Position, bool]]:
    """The next documents of a project, newest first, and whether each is wanted."""
    statement = select(Document.created_at, Document.id, wanted).where(
        Document.project_id == project_id, Document.deleted_at.is_(None)
    )
    if after is not None:
        statement = statement.where(tuple_(Document.created_at, Document.id) < after)
    statement = statement.order_by(Document.created_at.desc(), Document.id.desc()).limit(count)
    return [((row[0], row[1]), bool(row[2])) for row in await session.execute(statement)]


async def chosen(
    session: AsyncSession,
    wanted: ColumnElement[bool],
    *,
    project_id: uuid.UUID,
    ids: Collection[uuid.UUID],
    wait: bool,
) -> Sequence[Document]:
    """Those of the documents that are still wanted, locked; without `wait` only those that nobody else has locked."""
    statement = select(Document).where(
        Document.project_id == project_id, Document.id.in_(ids), Document.deleted_at.is_(None), wanted
    )
    locking = statement.order_by(Document.id).with_for_update(key_share=True, skip_locked=not wait)
    return (await session.scalars(locking)).all()


_LOCK: Final = select(
    func.pg_advisory_xact_lock(func.hashtextextended(bindparam("what", type_=Text()), 0))
).execution_options(tenant_guard="takes a lock and reads no row")
_WITH_CONTENT: Final = (
    select(Document)
    .where(
        Document.project_id == bindparam("project_id"),
        Document.sha256 == bindparam("sha256"),
        Document.deleted_at.is_(None),
    )
    .order_by(Document.created_at, Document.id)
    .limit(1)
)
_FIRST_WITH_CONTENT: Final = PreparedStatement(
    select(Document.id)
    .where(
        Document.project_id == bindparam("project_id", type_=Uuid()),
        Document.sha256 == bindparam("sha256", type_=Text()),
        Document.deleted_at.is_(None),
    )
    .order_by(Document.created_at, Document.id)
    .limit(literal_column("1"))
)
_SIBLING: Final = aliased(Document)
_LINKS: Final = (
    select(func.count())
    .where(
        _SIBLING.tenant_id == Document.tenant_id,
        _SIBLING.duplicate_of == Document.id,
        _SIBLING.linked,
        _SIBLING.deleted_at.is_(None),
    )
    .correlate(Document)
    .scalar_subquery()
)
# They keep the content until this transaction ends, and may be indexed meanwhile.
_HOLDER: Final = _WITH_CONTENT.with_for_update(read=True)
_LINKABLE: Final = _HOLDER.where(
    Document.linked.is_(False),
    Document.status.in_(("queued", "indexing", "indexed")),
    bindparam("most_links", type_=Integer()) > _LINKS,
)


async def lock_content(session: AsyncSession, *, project_id: uuid.UUID, sha256: str) -> None:
    """Wait for other transactions that decide what becomes of the same content in the project."""
    await session.execute(_LOCK, {"what": f"{tenant_of(session)}/{project_id}/{sha256}"})


async def lock_name(session: AsyncSession, *, project_id: uuid.UUID, name: str) -> None:
    """As `lock_content`, for uploads that replace the document of a name. Comes after it."""
    await session.execute(_LOCK, {"what": f"{tenant_of(session)}/{project_id}/name/{name}"})


async def first_with_content(session: AsyncSession, *, project_id: uuid.UUID, sha256: str) -> uuid.UUID | None:
    """The oldest document of a project whose newest version has this content."""
    rows = await rows_of(session, _FIRST_WITH_CONTENT, project_id=project_id, sha256=sha256)
    return rows[0].id if rows else None


async def holder_of(session: AsyncSession, *, project_id: uuid.UUID, sha256: str) -> Document | None:
    """As `first_with_content`; its content stays what it is until this transaction ends."""
    found: Document | None = await session.scalar(_HOLDER, {"project_id": project_id, "sha256": sha256})
    return found


async def linkable(session: AsyncSession, *, project_id: uuid.UUID, sha256: str, most_links: int) -> Document | None:
    """As `holder_of`, of documents that are or will be in search themselves and have fewer than `most_links` links."""
    values = {"project_id": project_id, "sha256": sha256, "most_links": most_links}
    found: Document | None = await session.scalar(_LINKABLE, values)
    return found


async def links_of(session: AsyncSession, document_id: uuid.UUID) -> Sequence[Document]:
    """Documents linked to this one, which is locked; oldest first, locked."""
    statement = select(Document).where(
        Document.duplicate_of == document_id, Document.linked, Document.deleted_at.is_(None)
    )
    ordered = statement.order_by(Document.created_at, Document.id).with_for_update(key_share=True)
    return (await session.scalars(ordered)).all()


async def newest_named(session: AsyncSession, *, project_id: uuid.UUID, name: str) -> Document | None:
    """The newest document of that name in a project, locked."""
    statement = select(Document).where(
        Document.project_id == project_id, Document.name == name, Document.deleted_at.is_(None)
    )
    newest = statement.order_by(Document.created_at.desc(), Document.id.desc()).limit(1)
    return await session.scalar(newest.with_for_update(key_share=True))


async def still_referred_to(session: AsyncSession, blob_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Ids of those blobs that a version of a document that is not deleted refers to.

    Once there is no such version there never will be: another one comes to share a blob only while a document that
    refers to it is locked.
    """
    visible = select(Document.blob_id).where(Document.blob_id.in_(blob_ids), Document.deleted_at.is_(None))
    own = select(Document.id).where(
        Document.id.in_(blob_ids), Document.blob_id.is_(None), Document.deleted_at.is_(None)
    )
    replaced = select(DocumentVersion.blob_id).where(DocumentVersion.blob_id.in_(blob_ids))
    return {blob_id for each in (visible, own, replaced) for blob_id in await session.scalars(each) if blob_id}


async def ready_exports(session: AsyncSession, export_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Those of the ids that are of exports with an archive."""
    ready = select(Export.id).where(Export.id.in_(export_ids), Export.status == "ready")
    return set(await session.scalars(ready))


async def remember_blob_deletions(
    session: AsyncSession, project_id: uuid.UUID, document_id: uuid.UUID | None, blobs: Mapping[uuid.UUID, int]
) -> None:
    """Have blobs removed, of a deleted document or of an upload that became none, now if nothing else refers to them.
    One that is being looked at is looked at again.

    Args:
        blobs: the bytes of each, by id.
    """
    values: dict[str, Any] = {"project_id": project_id, "version": 1, "attempts": 0}
    values["deleted"] = [] if document_id is None else [document_id]
    rows = [{**values, "document_id": blob_id, "size": size} for blob_id, size in sorted(blobs.items())]
    statement = insert(BlobDeletion).values(rows)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "document_id", "version"],
            set_={
                "next_attempt_at": func.now(),
                "attempts": 0,
                "size": statement.excluded.size,
                "deleted": BlobDeletion.deleted + statement.excluded.deleted,
            },
        )
    )
