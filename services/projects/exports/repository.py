"""SQL of exports, and of what goes into them."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Select, and_, false, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.documents.models import Document
from services.projects.exports.models import Export
from services.projects.projects.models import Project, ProjectMember
from services.projects.projects.repository import Holder
from services.projects.versions.models import DocumentVersion
from shared.work_queue import Retry, WorkQueue

Position = tuple[datetime, uuid.UUID]

_UNDER_WAY: Final = Export.status.in_(("queued", "running"))
_CLAIM: Final = timedelta(seconds=30)
MAKING: Final = WorkQueue(
    Export,
    due_at=Export.due_at,
    claim=_CLAIM,
    attempts=Export.attempts,
    due=and_(_UNDER_WAY, Export.due_at <= func.now()),
    order=(Export.due_at,),
    retry=Retry(timedelta(seconds=5), timedelta(minutes=10)),
)
ENDING: Final = WorkQueue(
    Export,
    due_at=Export.due_at,
    claim=_CLAIM,
    due=and_(~_UNDER_WAY, Export.due_at <= func.now()),
    order=(Export.due_at,),
    retry=Retry(timedelta(seconds=10), timedelta(seconds=10)),
)
_SHOWN: Final = and_(Export.status != "deleted", or_(Export.expires_at.is_(None), Export.expires_at > func.now()))


async def by_id(session: AsyncSession, *, export_id: uuid.UUID, lock: bool = False) -> Export | None:
    """An export that is neither deleted nor expired."""
    statement = select(Export).where(Export.id == export_id, _SHOWN)
    return await session.scalar(statement.with_for_update() if lock else statement)


async def counts(session: AsyncSession) -> tuple[int, int]:
    """How many exports of the tenant are under way, and how many there are in all."""
    statement = select(func.count(Export.id).filter(_UNDER_WAY), func.count(Export.id)).where(_SHOWN)
    under_way, kept = (await session.execute(statement)).one()
    return under_way, kept


async def page(
    session: AsyncSession,
    *,
    of_tenant: bool,
    of_projects: bool,
    only_project: uuid.UUID | None,
    owned_by: Holder | None,
    after: Position | None,
    count: int,
) -> Sequence[Export]:
    """Exports, newest first.

    Args:
        of_tenant: those of all projects.
        of_projects: those of a single project.
        only_project: of these, the ones of this project.
        owned_by: of these, the ones of projects that the holder owns.
    """
    single: ColumnElement[bool] = Export.project_id.is_not(None) if of_projects else false()
    if only_project is not None:
        single = and_(single, Export.project_id == only_project)
    if owned_by is not None:
        owned = select(ProjectMember.project_id).where(
            ProjectMember.user_id == owned_by.user_id,
            ProjectMember.membership_number == owned_by.membership_number,
            ProjectMember.role == "owner",
        )
        single = and_(single, Export.project_id.in_(owned))
    statement = select(Export).where(_SHOWN, or_(Export.project_id.is_(None) if of_tenant else false(), single))
    if after is not None:
        statement = statement.where(tuple_(Export.created_at, Export.id) < after)
    statement = statement.order_by(Export.created_at.desc(), Export.id.desc()).limit(count)
    return (await session.scalars(statement)).all()


# --- what goes into one ----------------------------------------------------------------------------------------------


async def totals(session: AsyncSession, export: Export) -> tuple[int, int]:
    """Documents that the export will have, and the bytes of all their versions."""
    documents, size = (
        await session.execute(
            _documents(export).with_only_columns(func.count(Document.id), func.coalesce(func.sum(Document.size), 0))
        )
    ).one()
    replaced = select(func.coalesce(func.sum(DocumentVersion.size), 0)).where(
        DocumentVersion.document_id.in_(_documents(export).with_only_columns(Document.id))
    )
    return documents, size + (await session.scalar(replaced) or 0)


async def next_project(session: AsyncSession, export: Export, *, after: uuid.UUID | None) -> Project | None:
    """The first project of the export with a later id."""
    statement = select(Project).where(Project.deleted_at.is_(None), Project.created_at <= export.created_at)
    if export.project_id is not None:
        statement = statement.where(Project.id == export.project_id)
    if after is not None:
        statement = statement.where(Project.id > after)
    return await session.scalar(statement.order_by(Project.id).limit(1))


async def document_ids(
    session: AsyncSession, export: Export, *, project_id: uuid.UUID, after: Position | None, count: int
) -> list[Position]:
    """Documents of a project that were there when the export was requested, oldest first."""
    statement = _documents(export).where(Document.project_id == project_id)
    if after is not None:
        statement = statement.where(tuple_(Document.created_at, Document.id) > after)
    statement = statement.order_by(Document.created_at, Document.id).limit(count)
    rows = await session.execute(statement.with_only_columns(Document.created_at, Document.id))
    return [(row[0], row[1]) for row in rows]


async def document(
    session: AsyncSession, *, project_id: uuid.UUID, document_id: uuid.UUID
) -> tuple[Document, list[DocumentVersion]] | None:
    """A document with all its versions, oldest first; None once it or its project is deleted."""
    statement = (
        select(Document)
        .join(Project, and_(Project.tenant_id == Document.tenant_id, Project.id == Document.project_id))
        .where(Document.project_id == project_id, Document.id == document_id)
        .where(Document.deleted_at.is_(None), Project.deleted_at.is_(None))
    )
    found = await session.scalar(statement)
    if found is None:
        return None
    replaced = select(DocumentVersion).where(DocumentVersion.document_id == document_id)
    versions = (await session.scalars(replaced.order_by(DocumentVersion.number))).all()
    return found, [*versions, found.newest_version]


def _documents(export: Export) -> Select[Document]:
    statement = (
        select(Document)
        .join(Project, and_(Project.tenant_id == Document.tenant_id, Project.id == Document.project_id))
        .where(Document.deleted_at.is_(None), Document.created_at <= export.created_at, Project.deleted_at.is_(None))
    )
    return statement if export.project_id is None else statement.where(Document.project_id == export.project_id)
