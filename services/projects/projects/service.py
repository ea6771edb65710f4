"""Projects and their members: behaviour.

Every change, including members, bumps the project's `revision` under a lock on its row; it is the sequence of its
events, so that projections of access can order them.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.projects import repository
from services.projects.projects.models import COUNTED, Project, ProjectContents, ProjectMember
from services.projects.projects.repository import Holder
from services.projects.tenants import service as tenants
from services.projects.tenants.service import Quotas
from shared import outbox
from shared.auth import Principal, Scope
from shared.errors import Forbidden, NotFound
from shared.etags import require_match
from shared.events.projects import (
    ProjectCreated,
    ProjectDeleted,
    ProjectRestored,
    ProjectRole,
    ProjectUpdated,
)
from shared.invalidations.recording import confirm
from shared.pagination import cut_page, decode_cursor
from shared.prepared_statements import TenantReads


@dataclass(frozen=True, slots=True)
class ProjectView:
    """A project as one caller sees it, with its documents by status and their bytes."""

    id: uuid.UUID
    name: str
    description: str
    metadata: dict[str, Any]
    revision: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    role: ProjectRole
    queued: int
    indexing: int
    indexed: int
    failed: int
    cancelled: int
    bytes: int

    @classmethod
    def of(cls, project: Project, role: ProjectRole, contents: ProjectContents | None) -> Self:
        return cls(
            id=project.id,
            name=project.name,
            description=project.description,
            metadata=project.custom_metadata,
            revision=project.revision,
            created_at=project.created_at,
            updated_at=project.updated_at,
            deleted_at=project.deleted_at,
            role=role,
            **{name: 0 if contents is None else getattr(contents, name) for name in COUNTED},
        )


async def authorize(session: AsyncSession, principal: Principal, *, project_id: uuid.UUID, scope: Scope) -> None:
    """Permission in a project.

    Raises:
        NotFound: no such project, or the caller has no role in it.
        Forbidden: the caller's role or credential does not give `scope` there.
    """
    found = await repository.role(session, project_id=project_id, holder=_holder(principal))
    if found is None or found.deleted_at is not None:
        raise NotFound
    principal.require_in_project(scope, project_id, found.role)


async def locked(
    session: AsyncSession, principal: Principal, *, project_id: uuid.UUID, scope: Scope, deleted: bool = False
) -> tuple[Project, ProjectRole]:
    """The project, its row held until the transaction ends, and the caller's role in it.

    Args:
        deleted: let deleted projects be found too.

    Raises:
        As `authorize`.
    """
    found = await repository.by_id(session, project_id=project_id, holder=_holder(principal), lock=True)
    if found is None or (found[0].deleted_at is not None and not deleted):
        raise NotFound
    project, role = found
    principal.require_in_project(scope, project_id, role)
    return project, _shown(role)


async def create(
    session: AsyncSession,
    principal: Principal,
    quotas: Quotas,
    *,
    name: str,
    description: str,
    metadata: dict[str, Any],
) -> ProjectView:
    """A new project.

    Raises:
        Forbidden: the caller is no owner or admin of the tenant: a project's own roles exist only after it.
        QuotaExceeded: the tenant has as many as it may.
    """
    principal.require(Scope.PROJECTS_WRITE)
    if principal.user_id is None:
        raise Forbidden("Only a user can create a project.")
    project = Project(name=name, description=description, custom_metadata=metadata, revision=1)
    session.add(project)
    await session.flush()
    owner: dict[str, Any] = {"project_id": project.id, "membership_number": principal.membership_number}
    session.add(ProjectMember(**owner, user_id=principal.user_id, role="owner"))
    event = ProjectCreated(**owner, actor_id=principal.user_id, name=name, owner_id=principal.user_id)
    outbox.publish(session, event, sequence=project.revision)
    await session.flush()
    await tenants.take(session, quotas, projects=1)
    return ProjectView.of(project, "owner", None)


async def get(reads: TenantReads, principal: Principal, *, project_id: uuid.UUID) -> ProjectView:
    row = await repository.seen(reads, project_id=project_id, holder=_holder(principal))
    if row is None or row.deleted_at is not None:
        raise NotFound
    principal.require_in_project(Scope.PROJECTS_READ, project_id, row.role)
    return _seen(row)


async def page(
    reads: TenantReads, principal: Principal, *, deleted: bool, limit: int, cursor: str | None
) -> tuple[list[ProjectView], str | None]:
    """Projects the caller has a role in, or all of the tenant for its owners and admins, newest first."""
    if Scope.PROJECTS_READ not in principal.limit:
        raise Forbidden
    rows, next_cursor = cut_page(
        await repository.page(
            reads,
            holder=_holder(principal),
            only_members=not principal.is_tenant_admin,
            only_project=principal.project_id,
            deleted=deleted,
            after=decode_cursor(cursor),
            count=limit + 1,
        ),
        limit,
        lambda row: (row.created_at, row.id),
    )
    return [_seen(row) for row in rows], next_cursor


async def update(
    session: AsyncSession,
    principal: Principal,
    *,
    project_id: uuid.UUID,
    if_match: str | None,
    changes: dict[str, Any],
) -> ProjectView:
    """Apply `changes` of name, description and metadata."""
    project, role = await locked(session, principal, project_id=project_id, scope=Scope.PROJECTS_WRITE)
    require_match(if_match, project.revision)
    if changes:
        project.name = changes.get("name", project.name)
        project.description = changes.get("description", project.description)
        project.custom_metadata = changes.get("metadata", project.custom_metadata)
        project.revision += 1
        event = ProjectUpdated(project_id=project.id, actor_id=principal.user_id, name=project.name)
        outbox.publish(session, event, sequence=project.revision)
        await session.flush()
    return await _view(session, project, role)


async def delete(session: AsyncSession, principal: Principal, *, project_id: uuid.UUID, if_match: str | None) -> None:
    """Hide a project and all in it until it is restored. Uploads that are not finished end."""
    project, _ = await locked(session, principal, project_id=project_id, scope=Scope.PROJECTS_WRITE)
    require_match(if_match, project.revision)
    project.deleted_at = datetime.now(UTC)
    project.revision += 1
    event = ProjectDeleted(project_id=project.id, actor_id=principal.user_id)
    outbox.publish(session, event, sequence=project.revision)
    await session.flush()
    await repository.end_uploads(session, project_id=project.id)
    await repository.end_exports(session, project_id=project.id)
    await tenants.give_back(session, projects=1)


async def restore(session: AsyncSession, principal: Principal, quotas: Quotas, *, project_id: uuid.UUID) -> ProjectView:
    """Bring a deleted project back with its documents and members; one that is not deleted stays as it is.

    Raises:
        QuotaExceeded: the tenant has as many projects as it may.
    """
    project, role = await locked(session, principal, project_id=project_id, scope=Scope.PROJECTS_WRITE, deleted=True)
    if project.deleted_at is not None:
        project.deleted_at = None
        project.revision += 1
        event = ProjectRestored(project_id=project.id, actor_id=principal.user_id)
        outbox.publish(session, event, sequence=project.revision)
        await session.flush()
        await tenants.take(session, quotas, projects=1)
    else:
        confirm(session)
    return await _view(session, project, role)


async def access(
    session: AsyncSession, *, project_id: uuid.UUID, user_id: uuid.UUID | None, membership_number: int
) -> tuple[Project, Sequence[ProjectMember]]:
    """A project, deleted or not, and all its members, for another service.

    Raises:
        NotFound: there is no such project, or the user has no role in it; both take the same time.
    """
    found = await repository.by_id(session, project_id=project_id, holder=Holder(user_id, membership_number))
    if found is None or (user_id is not None and found[1] is None):
        raise NotFound
    return found[0], await repository.members(session, project_id=project_id)


def _holder(principal: Principal) -> Holder:
    return Holder(principal.user_id, principal.membership_number)


async def _view(session: AsyncSession, project: Project, role: ProjectRole) -> ProjectView:
    return ProjectView.of(project, role, await repository.contents(session, project_id=project.id))


def _seen(row: Row[Any]) -> ProjectView:
    found = row._asdict()
    counted = {name: found[name] or 0 for name in COUNTED}
    return ProjectView(**{**found, **counted, "role": _shown(found["role"])})


def _shown(role: ProjectRole | None) -> ProjectRole:
    """A caller who sees a project without a role in it is an owner or admin of the tenant, and acts as its owner."""
    return role or "owner"
