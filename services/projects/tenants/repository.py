"""SQL of a tenant's usage, erasures and departures."""

import uuid
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, Function, Row, bindparam, delete, func, literal_column, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from services.projects.batches.models import Batch
from services.projects.documents.models import Document
from services.projects.exports.models import Export
from services.projects.projects.models import Project, ProjectContents, ProjectMember
from services.projects.purges.models import DocumentPurge
from services.projects.tenants.models import Departure, TenantErasure, TenantUsage
from services.projects.uploads.models import Upload, UploadExpiry
from services.projects.versions.models import DocumentVersion
from shared.prepared_statements import PreparedStatement, rows_of
from shared.work_queue import WorkQueue

_CLAIM: Final = timedelta(seconds=60)
ERASURES: Final = WorkQueue(TenantErasure, due_at=TenantErasure.due_at, claim=_CLAIM)
DEPARTURES: Final = WorkQueue(Departure, due_at=Departure.due_at, claim=_CLAIM)


def _added(column: InstrumentedAttribute[int], more: str) -> Function[int]:
    return func.greatest(literal_column("0"), column + bindparam(more, type_=BigInteger()))


_ADD: Final = PreparedStatement(
    update(TenantUsage)
    .where(TenantUsage.deleted_at.is_(None))
    .values(
        projects=_added(TenantUsage.projects, "more_projects"),
        documents=_added(TenantUsage.documents, "more_documents"),
        bytes=_added(TenantUsage.bytes, "more_bytes"),
        uploads=_added(TenantUsage.uploads, "more_uploads"),
    )
    .returning(TenantUsage.projects, TenantUsage.documents, TenantUsage.bytes, TenantUsage.uploads)
)


async def add(session: AsyncSession, *, projects: int, documents: int, size: int, uploads: int) -> Row[Any] | None:
    """Add to the counters and lock the row until the transaction ends; None without a row, or for a deleted tenant."""
    more = {"more_projects": projects, "more_documents": documents, "more_bytes": size, "more_uploads": uploads}
    rows = await rows_of(session, _ADD, **more)
    return rows[0] if rows else None


async def begin(session: AsyncSession) -> TenantUsage | None:
    """Count existing rows, this transaction's included; None when another transaction has done so."""
    projects = await session.scalar(select(func.count(Project.id)).where(Project.deleted_at.is_(None)))
    documents = select(func.count(Document.id), func.coalesce(func.sum(Document.size), 0))
    count, size = (await session.execute(documents.where(Document.deleted_at.is_(None)))).one()
    replaced = select(func.count(DocumentVersion.number), func.coalesce(func.sum(DocumentVersion.size), 0))
    more, more_bytes = (await session.execute(replaced)).one()
    unfinished = select(func.count(Upload.id), func.coalesce(func.sum(Upload.reserved), 0))
    uploads, arriving = (await session.execute(unfinished.where(Upload.document_id.is_(None)))).one()
    return await session.scalar(
        insert(TenantUsage)
        .values(projects=projects or 0, documents=count + more, bytes=size + more_bytes + arriving, uploads=uploads)
        .on_conflict_do_nothing(index_elements=["tenant_id"])
        .returning(TenantUsage)
    )


async def used(session: AsyncSession) -> TenantUsage | None:
    return await session.scalar(select(TenantUsage))


async def tombstone(session: AsyncSession) -> None:
    """Set the tombstone, once additions under way have committed, and schedule the erasure."""
    gone: dict[str, Any] = {"projects": 0, "documents": 0, "bytes": 0, "deleted_at": func.now()}
    statement = insert(TenantUsage).values(**gone)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id"],
            set_={"deleted_at": func.coalesce(TenantUsage.deleted_at, func.now())},
        )
    )
    await session.execute(
        insert(TenantErasure).values(due_at=func.now()).on_conflict_do_nothing(index_elements=["tenant_id"])
    )


async def note_departure(session: AsyncSession, *, user_id: uuid.UUID, membership_number: int) -> None:
    """Due now, whoever removes the roles of an earlier membership: those of this one go with them."""
    statement = insert(Departure).values(user_id=user_id, membership_number=membership_number)
    new = statement.excluded
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "user_id"],
            set_={
                "membership_number": func.greatest(Departure.membership_number, new.membership_number),
                "due_at": func.now(),
            },
        )
    )


async def roles_of(
    session: AsyncSession, *, user_id: uuid.UUID, membership_number: int, count: int
) -> list[tuple[Project, ProjectMember]]:
    """Roles granted until that membership ended, with their projects, locked."""
    rows = await session.execute(
        select(Project, ProjectMember)
        .join(ProjectMember, ProjectMember.project_id == Project.id)
        .where(ProjectMember.user_id == user_id, ProjectMember.membership_number <= membership_number)
        .order_by(Project.id)
        .limit(count)
        .with_for_update(of=Project, key_share=True)
    )
    return [(row[0], row[1]) for row in rows]


async def erase_some(session: AsyncSession, *, count: int) -> int:
    """Remove at most `count` rows of the tenant; returns how many. Referenced rows go last."""
    linked = select(Document.id).where(Document.duplicate_of.is_not(None)).limit(count)
    unlinked = await session.scalars(
        update(Document)
        .where(Document.id.in_(linked))
        .values(duplicate_of=None)
        .returning(Document.id)
        .execution_options(synchronize_session=False)
    )
    if found := len(unlinked.all()):
        return found
    documents = select(Document.id).limit(count)
    version = (DocumentVersion.document_id, DocumentVersion.number)
    for statement in (
        # First: whoever makes one finds that it is gone, before blobs are removed.
        delete(Export).where(Export.id.in_(select(Export.id).limit(count))).returning(Export.id),
        delete(DocumentVersion)
        .where(tuple_(*version).in_(select(*version).limit(count)))
        .returning(DocumentVersion.number),
        delete(DocumentPurge)
        .where(DocumentPurge.document_id.in_(select(DocumentPurge.document_id).limit(count)))
        .returning(DocumentPurge.document_id),
        delete(Document).where(Document.id.in_(documents)).returning(Document.id),
        delete(UploadExpiry)
        .where(UploadExpiry.upload_id.in_(select(UploadExpiry.upload_id).limit(count)))
        .returning(UploadExpiry.upload_id),
        delete(Upload).where(Upload.id.in_(select(Upload.id).limit(count))).returning(Upload.id),
        delete(Batch).where(Batch.id.in_(select(Batch.id).limit(count))).returning(Batch.id),
        delete(ProjectMember)
        .where(
            tuple_(ProjectMember.project_id, ProjectMember.user_id).in_(
                select(ProjectMember.project_id, ProjectMember.user_id).limit(count)
            )
        )
        .returning(ProjectMember.user_id),
        delete(ProjectContents)
        .where(ProjectContents.project_id.in_(select(ProjectContents.project_id).limit(count)))
        .returning(ProjectContents.project_id),
        delete(Project).where(Project.id.in_(select(Project.id).limit(count))).returning(Project.id),
    ):
        removed = await session.scalars(statement.execution_options(synchronize_session=False))
        if found := len(removed.all()):
            return found
    return 0
