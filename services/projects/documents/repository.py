"""SQL of documents."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Text, bindparam, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.documents.models import BlobDeletion, Document, DocumentStatus
from shared.tenancy import tenant_of
from shared.work_queue import Retry, WorkQueue

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
    after: tuple[datetime, uuid.UUID] | None,
    count: int,
) -> Sequence[Document]:
    """Documents of a project, newest first."""
    statement = select(Document).where(Document.project_id == project_id, Document.deleted_at.is_(None))
    for column, value in ((Document.status, status), (Document.name, name), (Document.sha256, sha256)):
        if value is not None:
            statement = statement.where(column == value)
    if after is not None:
        statement = statement.where(tuple_(Document.created_at, Document.id) < after)
    statement = statement.order_by(Document.created_at.desc(), Document.id.desc()).limit(count)
    return (await session.scalars(statement)).all()


_LOCK_CONTENT: Final = select(
    func.pg_advisory_xact_lock(func.hashtextextended(bindparam("content", type_=Text()), 0))
).execution_options(tenant_guard="takes a lock and reads no row")
_FIRST_WITH_CONTENT: Final = (
    select(Document.id)
    .where(
        Document.project_id == bindparam("project_id"),
        Document.sha256 == bindparam("sha256"),
        Document.deleted_at.is_(None),
    )
    .order_by(Document.created_at, Document.id)
    .limit(1)
)


async def first_with_content(
    session: AsyncSession, *, project_id: uuid.UUID, sha256: str, alone: bool
) -> uuid.UUID | None:
    """The oldest document of a project with this content.

    Args:
        alone: lock the content: other callers with `alone` wait until this transaction ends.
    """
    if alone:
        await session.execute(_LOCK_CONTENT, {"content": f"{tenant_of(session)}/{project_id}/{sha256}"})
    found: uuid.UUID | None = await session.scalar(_FIRST_WITH_CONTENT, {"project_id": project_id, "sha256": sha256})
    return found


async def still_there(session: AsyncSession, document_ids: Sequence[uuid.UUID]) -> set[tuple[uuid.UUID, int]]:
    """Ids and versions of those documents that exist and are not deleted."""
    rows = await session.execute(
        select(Document.id, Document.version).where(Document.id.in_(document_ids), Document.deleted_at.is_(None))
    )
    return {(row[0], row[1]) for row in rows}


def remember_blob_deletion(session: AsyncSession, document: Document) -> None:
    values: dict[str, Any] = {"project_id": document.project_id, "document_id": document.id}
    session.add(BlobDeletion(**values, version=document.version, attempts=0))
