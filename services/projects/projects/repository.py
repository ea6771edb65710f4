"""SQL of projects and members."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, ScalarSelect, Select, Uuid, bindparam, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.documents.models import Document
from services.projects.exports.models import Export
from services.projects.projects.models import Project, ProjectMember
from shared.events.projects import ProjectRole

Position = tuple[datetime, uuid.UUID]


class Holder(NamedTuple):
    """Selects roles: those a user holds in one of its memberships of the tenant."""

    user_id: uuid.UUID | None
    membership_number: int


def _with_role(*, only_members: bool) -> Select[Project, ProjectRole | None]:
    return select(Project, ProjectMember.role).join(
        ProjectMember,
        (ProjectMember.tenant_id == Project.tenant_id)
        & (ProjectMember.project_id == Project.id)
        & (ProjectMember.user_id == bindparam("user_id", type_=Uuid()))
        & (ProjectMember.membership_number == bindparam("membership_number", type_=BigInteger())),
        isouter=not only_members,
    )


def _document_count() -> ScalarSelect[int]:
    return (
        select(func.count(Document.id))
        .where(
            Document.tenant_id == Project.tenant_id,
            Document.project_id == Project.id,
            Document.deleted_at.is_(None),
        )
        .correlate(Project)
        .scalar_subquery()
    )


_LOCK: Final = select(Project.id).where(Project.id == bindparam("project_id")).with_for_update(key_share=True)
_BY_ID: Final = _with_role(only_members=False).where(Project.id == bindparam("project_id"))
_WITH_COUNT: Final = _BY_ID.add_columns(_document_count())


async def by_id(
    session: AsyncSession, *, project_id: uuid.UUID, holder: Holder, lock: bool = False
) -> tuple[Project, ProjectRole | None] | None:
    """A project, deleted or not, and the holder's role in it."""
    if lock:
        # Does not block foreign keys: uploads into the project go on. A statement of its own: the role has to be read
        # after the wait.
        await session.execute(_LOCK, {"project_id": project_id})
    row = (await session.execute(_BY_ID, {"project_id": project_id, **holder._asdict()})).one_or_none()
    return None if row is None else (row[0], row[1])


async def with_count(
    session: AsyncSession, *, project_id: uuid.UUID, holder: Holder
) -> tuple[Project, ProjectRole | None, int] | None:
    """As `by_id`, with the number of visible documents."""
    row = (await session.execute(_WITH_COUNT, {"project_id": project_id, **holder._asdict()})).one_or_none()
    return None if row is None else (row[0], row[1], row[2])


async def page(
    session: AsyncSession,
    *,
    holder: Holder,
    only_members: bool,
    only_project: uuid.UUID | None,
    deleted: bool,
    after: Position | None,
    count: int,
) -> list[tuple[Project, ProjectRole | None, int]]:
    """Projects, the holder's role and the number of documents in each, newest first.

    Args:
        only_members: leave out those without a role.
    """
    statement = (
        _with_role(only_members=only_members)
        .add_columns(_document_count())
        .where(Project.deleted_at.is_not(None) if deleted else Project.deleted_at.is_(None))
    )
    if only_project is not None:
        statement = statement.where(Project.id == only_project)
    if after is not None:
        statement = statement.where(tuple_(Project.created_at, Project.id) < after)
    statement = statement.order_by(Project.created_at.desc(), Project.id.desc()).limit(count)
    return [(row[0], row[1], row[2]) for row in await session.execute(statement, holder._asdict())]


async def document_count(session: AsyncSession, *, project_id: uuid.UUID) -> int:
    """Number of visible documents of a project."""
    count = await session.scalar(
        select(func.count(Document.id)).where(Document.project_id == project_id, Document.deleted_at.is_(None))
    )
    return count or 0


async def member(session: AsyncSession, *, project_id: uuid.UUID, user_id: uuid.UUID) -> ProjectMember | None:
    return await session.scalar(
        select(ProjectMember).where(ProjectMember.project_id == project_id, ProjectMember.user_id == user_id)
    )


async def members(
    session: AsyncSession, *, project_id: uuid.UUID, after: Position | None = None, count: int | None = None
) -> Sequence[ProjectMember]:
    """Members of a project, the newest first."""
    statement = select(ProjectMember).where(ProjectMember.project_id == project_id)
    if after is not None:
        statement = statement.where(tuple_(ProjectMember.created_at, ProjectMember.user_id) < after)
    statement = statement.order_by(ProjectMember.created_at.desc(), ProjectMember.user_id.desc()).limit(count)
    return (await session.scalars(statement)).all()


async def owners(session: AsyncSession, *, project_id: uuid.UUID, count: int) -> Sequence[ProjectMember]:
    """Owners of a project, of this and earlier memberships of the tenant, the newest first."""
    statement = select(ProjectMember).where(ProjectMember.project_id == project_id, ProjectMember.role == "owner")
    return (await session.scalars(statement.order_by(ProjectMember.updated_at.desc()).limit(count))).all()


async def end_exports(session: AsyncSession, *, project_id: uuid.UUID) -> None:
    """Exports of a project that is deleted are gone, and removed soon (`exports.making`)."""
    await session.execute(
        update(Export)
        .where(Export.project_id == project_id)
        .values(status="deleted", due_at=func.now())
        .execution_options(synchronize_session=False)
    )
