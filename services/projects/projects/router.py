"""HTTP routes of projects and members."""

import uuid
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from services.projects.dependencies import AccessReader, CurrentAuthority, TenantQuotas
from services.projects.projects import members, service
from services.projects.projects.schemas import (
    AccessMember,
    AccessOut,
    MemberOut,
    MemberPut,
    ProjectCreate,
    ProjectOut,
    ProjectPatch,
)
from services.projects.projects.service import ProjectView
from shared.current_principal import CurrentPrincipal
from shared.etags import IfMatch, etag
from shared.pagination import Cursor, Limit, Page
from shared.session_dependencies import CallerReads, CallerTransactions, TenantSession

router = APIRouter(prefix="/v1/projects", tags=["Projects"])
internal_router = APIRouter(prefix="/internal/projects", include_in_schema=False)

Status = Annotated[Literal["active", "deleted"], Query()]


@router.post("", status_code=201)
async def create_project(
    session: TenantSession,
    principal: CurrentPrincipal,
    quotas: TenantQuotas,
    body: ProjectCreate,
    response: Response,
) -> ProjectOut:
    """Create a project; the caller becomes its first owner."""
    view = await service.create(
        session, principal, quotas, name=body.name, description=body.description, metadata=body.metadata
    )
    response.headers["Location"] = f"/v1/projects/{view.id}"
    return _answer(response, view)


@router.get("")
async def list_projects(
    reads: CallerReads,
    principal: CurrentPrincipal,
    status: Status = "active",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ProjectOut]:
    """Projects the caller may see, newest first; `status=deleted` lists those that can be restored."""
    views, next_cursor = await service.page(reads, principal, deleted=status == "deleted", limit=limit, cursor=cursor)
    return Page(items=[ProjectOut.of(view) for view in views], next_cursor=next_cursor)


@router.get("/{project_id}")
async def get_project(
    reads: CallerReads, principal: CurrentPrincipal, project_id: uuid.UUID, response: Response
) -> ProjectOut:
    """One project, with the `ETag` required to change or delete it."""
    return _answer(response, await service.get(reads, principal, project_id=project_id))


@router.patch("/{project_id}")
async def update_project(
    session: TenantSession,
    principal: CurrentPrincipal,
    project_id: uuid.UUID,
    body: ProjectPatch,
    response: Response,
    if_match: IfMatch = None,
) -> ProjectOut:
    """Change the fields sent; `metadata` is replaced as a whole."""
    changes = body.model_dump(exclude_unset=True)
    view = await service.update(session, principal, project_id=project_id, if_match=if_match, changes=changes)
    return _answer(response, view)


@router.delete("/{project_id}", status_code=204)
async def delete_project(
    session: TenantSession, principal: CurrentPrincipal, project_id: uuid.UUID, if_match: IfMatch = None
) -> None:
    """Delete a project. It disappears at once and can be restored."""
    await service.delete(session, principal, project_id=project_id, if_match=if_match)


@router.post("/{project_id}/restore")
async def restore_project(
    session: TenantSession,
    principal: CurrentPrincipal,
    quotas: TenantQuotas,
    project_id: uuid.UUID,
    response: Response,
) -> ProjectOut:
    """Restore a deleted project with its documents and members."""
    return _answer(response, await service.restore(session, principal, quotas, project_id=project_id))


@router.get("/{project_id}/members")
async def list_members(
    transactions: CallerTransactions,
    principal: CurrentPrincipal,
    authority: CurrentAuthority,
    project_id: uuid.UUID,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[MemberOut]:
    """Users with a role in the project. Owners and admins of the tenant need none and are not listed."""
    found, next_cursor = await members.page(
        transactions, principal, authority, project_id=project_id, limit=limit, cursor=cursor
    )
    return Page(items=[MemberOut.of(member) for member in found], next_cursor=next_cursor)


@router.put("/{project_id}/members/{user_id}")
async def put_member(
    transactions: CallerTransactions,
    principal: CurrentPrincipal,
    authority: CurrentAuthority,
    project_id: uuid.UUID,
    user_id: uuid.UUID,
    body: MemberPut,
) -> MemberOut:
    """Give a member of the tenant a role in the project; 422 `not_a_tenant_member` for anyone else."""
    member = await members.put(
        transactions, principal, authority, project_id=project_id, user_id=user_id, role=body.role
    )
    return MemberOut.of(member)


@router.delete("/{project_id}/members/{user_id}", status_code=204)
async def remove_member(
    transactions: CallerTransactions,
    principal: CurrentPrincipal,
    authority: CurrentAuthority,
    project_id: uuid.UUID,
    user_id: uuid.UUID,
) -> None:
    """Remove a user's role in the project."""
    await members.remove(transactions, principal, authority, project_id=project_id, user_id=user_id)


@internal_router.get("/{project_id}/access")
async def project_access(
    session: TenantSession,
    _caller: AccessReader,
    project_id: uuid.UUID,
    user_id: uuid.UUID | None = None,
    membership_number: int = 1,
) -> AccessOut:
    """Status and members of a project, for a projection that does not know the project or the user's role yet."""
    project, roles = await service.access(
        session, project_id=project_id, user_id=user_id, membership_number=membership_number
    )
    return AccessOut(
        project_id=project.id,
        status="active" if project.deleted_at is None else "deleted",
        revision=project.revision,
        members=[AccessMember.model_validate(member, from_attributes=True) for member in roles],
    )


def _answer(response: Response, view: ProjectView) -> ProjectOut:
    response.headers["ETag"] = etag(view.revision)
    return ProjectOut.of(view)
