"""SQL of projects and members."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, DateTime, Integer, Row, Select, Uuid, bindparam, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.exports.models import Export
from services.projects.projects.models import COUNTED, Project, ProjectContents, ProjectMember
from services.projects.uploads.models import Upload, UploadExpiry
from shared.events.projects import ProjectRole
from shared.prepared_statements import PreparedStatement, TenantReads, rows_of

Position = tuple[datetime, uuid.UUID]


class Holder(NamedTuple):
    """Selects roles: those a user holds in one of its memberships of the tenant."""

    user_id: uuid.UUID | None
    membership_number: int


_ROLE: Final = (
    (ProjectMember.tenant_id == Project.tenant_id)
    & (ProjectMember.project_id == Project.id)
    & (ProjectMember.user_id == bindparam("user_id", type_=Uuid()))
    & (ProjectMember.membership_number == bindparam("membership_number", type_=BigInteger()))
)
_CONTENTS: Final = (ProjectContents.tenant_id == Project.tenant_id) & (ProjectContents.project_id == Project.id)
_COUNTED: Final = tuple(getattr(ProjectContents, name) for name in COUNTED)


def _as_seen(*, only_members: bool) -> Select[Any]:
    """What a holder sees of projects, and what each holds; null before its first document."""
    columns = (
        *(Project.id, Project.name, Project.description, Project.custom_metadata, Project.revision),
        *(Project.created_at, Project.updated_at, Project.deleted_at, ProjectMember.role),
        *_COUNTED,
    )
    seen = select(*columns).select_from(Project).join(ProjectMember, _ROLE, isouter=not only_members)
    return seen.outerjoin(ProjectContents, _CONTENTS)


@cache
def _page(*, only_members: bool, tied: bool, deleted: bool, further: bool) -> PreparedStatement:
    statement = _as_seen(only_members=only_members).where(
        Project.deleted_at.is_not(None) if deleted else Project.deleted_at.is_(None)
    )
    if tied:
        statement = statement.where(Project.id == bindparam("project_id", type_=Uuid()))
    if further:
        position = tuple_(bindparam("created_at", type_=DateTime(timezone=True)), bindparam("id", type_=Uuid()))
        statement = statement.where(tuple_(Project.created_at, Project.id) < position)
    newest = statement.order_by(Project.created_at.desc(), Project.id.desc())
    return PreparedStatement(newest.limit(bindparam("count", type_=Integer())))


_LOCK: Final = select(Project.id).where(Project.id == bindparam("project_id")).with_for_update(key_share=True)
_BY_ID: Final = (
    select(Project, ProjectMember.role)
    .join(ProjectMember, _ROLE, isouter=True)
    .where(Project.id == bindparam("project_id"))
)
_SEEN: Final = PreparedStatement(
    _as_seen(only_members=False).where(Project.id == bindparam("project_id", type_=Uuid()))
)


_OF_HOLDER: Final = PreparedStatement(
    select(Project.deleted_at, ProjectMember.role)
    .select_from(Project)
    .join(ProjectMember, _ROLE, isouter=True)
    .where(Project.id == bindparam("project_id", type_=Uuid()))
)


async def role(session: AsyncSession, *, project_id: uuid.UUID, holder: Holder) -> Row[Any] | None:
    """When a project was deleted, if it was, and the holder's role in it."""
    rows = await rows_of(session, _OF_HOLDER, project_id=project_id, **holder._asdict())
    return rows[0] if rows else None


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


async def seen(reads: TenantReads, *, project_id: uuid.UUID, holder: Holder) -> Row[Any] | None:
    """A project, deleted or not, as `_as_seen`."""
    return await reads.row(_SEEN, project_id=project_id, **holder._asdict())


async def page(
    reads: TenantReads,
    *,
    holder: Holder,
    only_members: bool,
    only_project: uuid.UUID | None,
    deleted: bool,
    after: Position | None,
    count: int,
) -> Sequence[Row[Any]]:
    """Projects as `_as_seen`, newest first.

    Args:
        only_members: leave out those without a role.
    """
    read = _page(only_members=only_members, tied=only_project is not None, deleted=deleted, further=after is not None)
    position = {} if after is None else {"created_at": after[0], "id": after[1]}
    return await reads.rows(read, **holder._asdict(), **position, project_id=only_project, count=count)


async def contents(session: AsyncSession, *, project_id: uuid.UUID) -> ProjectContents | None:
    """What a project holds; None before its first document."""
    return await session.scalar(select(ProjectContents).where(ProjectContents.project_id == project_id))


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


async def end_uploads(session: AsyncSession, *, project_id: uuid.UUID) -> None:
    """Let the unfinished uploads of a project, of which a tenant has a bounded number, be removed soon."""
    of_project = select(Upload.id).where(Upload.project_id == project_id, Upload.document_id.is_(None))
    statement = update(UploadExpiry).where(UploadExpiry.upload_id.in_(of_project)).values(due_at=func.now())
    await session.execute(statement.execution_options(synchronize_session=False))


async def end_exports(session: AsyncSession, *, project_id: uuid.UUID) -> None:
    """Exports of a project that is deleted are gone, and removed soon (`exports.making`)."""
    await session.execute(
        update(Export)
        .where(Export.project_id == project_id)
        .values(status="deleted", due_at=func.now())
        .execution_options(synchronize_session=False)
    )
