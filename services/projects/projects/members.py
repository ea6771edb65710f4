"""Members of a project and their roles.

identity decides who belongs to the tenant; it is asked before each change, with no transaction open, so decisions made
here are right without Redis too. A role counts in the membership of the tenant it was granted in: a user who leaves the
tenant loses it at once, and does not get it back by returning. Rows of users who left are removed soon after
(`services.projects.erasure`); until then they have no effect.

A project keeps an owner who belongs to the tenant: the last one can be neither removed nor demoted. When that owner
leaves the tenant the project has no owner of its own, and the tenant's owners and admins act in it as they always may.
"""

import uuid
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.projects import repository
from services.projects.projects.errors import GrantTooWide, LastOwner, NotATenantMember
from services.projects.projects.models import Project, ProjectMember
from services.projects.projects.service import authorize, locked
from shared import outbox
from shared.auth import PROJECT_ROLE_SCOPES, Principal, Scope
from shared.authority_client import MOST_ASKED, Authority
from shared.errors import NotFound
from shared.events.projects import ProjectMemberChanged, ProjectRole
from shared.invalidations.recording import confirm
from shared.pagination import cut_page, decode_cursor
from shared.transactions import TenantTransactions

Numbers = Mapping[uuid.UUID, int]


async def page(
    transactions: TenantTransactions,
    principal: Principal,
    authority: Authority,
    *,
    project_id: uuid.UUID,
    limit: int,
    cursor: str | None,
) -> tuple[list[ProjectMember], str | None]:
    """Members that count, newest first; a page may be shorter than `limit`."""
    async with transactions.begin() as session:
        await authorize(session, principal, project_id=project_id, scope=Scope.PROJECTS_READ)
        rows = await repository.members(session, project_id=project_id, after=decode_cursor(cursor), count=limit + 1)
    shown, next_cursor = cut_page(rows, limit, lambda member: (member.created_at, member.user_id))
    numbers = await authority.memberships(transactions.tenant_id, {member.user_id for member in shown})
    return [member for member in shown if _counts(member, numbers)], next_cursor


async def put(
    transactions: TenantTransactions,
    principal: Principal,
    authority: Authority,
    *,
    project_id: uuid.UUID,
    user_id: uuid.UUID,
    role: ProjectRole,
) -> ProjectMember:
    """Give a user a role, whatever it was before.

    Raises:
        NotATenantMember: the user does not belong to the tenant.
        GrantTooWide: the role allows more than the caller may do, or the caller's key is tied to the project.
        LastOwner: the only owner would lose that role.
    """
    numbers = await _numbers(transactions, principal, authority, project_id, user_id)
    if user_id not in numbers:
        raise NotATenantMember
    async with transactions.begin() as session:
        project, own = await locked(session, principal, project_id=project_id, scope=Scope.MEMBERS_ADMIN)
        _check_grant(principal, project_id, own, role)
        member = await repository.member(session, project_id=project_id, user_id=user_id)
        if member is None:
            member = ProjectMember(project_id=project_id, user_id=user_id)
            session.add(member)
        elif _counts(member, numbers) and member.role == role:
            confirm(session)
            return member
        else:
            await _keep_an_owner(session, member, numbers)
        member.role, member.membership_number = role, numbers[user_id]
        announce(session, project, member, role, actor_id=principal.user_id)
        await session.flush()
        return member


async def remove(
    transactions: TenantTransactions,
    principal: Principal,
    authority: Authority,
    *,
    project_id: uuid.UUID,
    user_id: uuid.UUID,
) -> None:
    """Take a user's role away.

    Raises:
        NotFound: the user has none.
        LastOwner: it is the only owner.
    """
    numbers = await _numbers(transactions, principal, authority, project_id, user_id)
    async with transactions.begin() as session:
        project, _ = await locked(session, principal, project_id=project_id, scope=Scope.MEMBERS_ADMIN)
        member = await repository.member(session, project_id=project_id, user_id=user_id)
        if member is None:
            raise NotFound
        await _keep_an_owner(session, member, numbers)
        await session.delete(member)
        announce(session, project, member, None, actor_id=principal.user_id)


def _check_grant(principal: Principal, project_id: uuid.UUID, own: ProjectRole, role: ProjectRole) -> None:
    """A caller cannot grant more than it has; a key that is tied to a project cannot grant anything."""
    if principal.project_id is not None or not PROJECT_ROLE_SCOPES[role] <= principal.scopes_in_project(
        project_id, own
    ):
        raise GrantTooWide


def announce(
    session: AsyncSession,
    project: Project,
    member: ProjectMember,
    role: ProjectRole | None,
    *,
    actor_id: uuid.UUID | None,
) -> None:
    """Publish a member's new role, or its removal; the project's row is locked."""
    project.revision += 1
    event = ProjectMemberChanged(
        project_id=project.id,
        actor_id=actor_id,
        user_id=member.user_id,
        role=role,
        membership_number=member.membership_number,
    )
    outbox.publish(session, event, sequence=project.revision)


async def _numbers(
    transactions: TenantTransactions,
    principal: Principal,
    authority: Authority,
    project_id: uuid.UUID,
    user_id: uuid.UUID,
) -> Numbers:
    """Which of the user and the project's owners belong to the tenant. Only callers who may change members may ask."""
    async with transactions.begin() as session:
        await authorize(session, principal, project_id=project_id, scope=Scope.MEMBERS_ADMIN)
        owners = await repository.owners(session, project_id=project_id, count=MOST_ASKED - 1)
    return await authority.memberships(transactions.tenant_id, {user_id, *(owner.user_id for owner in owners)})


async def _keep_an_owner(session: AsyncSession, member: ProjectMember, numbers: Numbers) -> None:
    """Raises LastOwner: no other owner belongs to the tenant. An owner added since identity was asked does not count:
    the change is treated as if it had come first."""
    if member.role != "owner" or not _counts(member, numbers):
        return
    owners = await repository.owners(session, project_id=member.project_id, count=MOST_ASKED)
    if not any(_counts(owner, numbers) for owner in owners if owner.user_id != member.user_id):
        raise LastOwner


def _counts(member: ProjectMember, numbers: Numbers) -> bool:
    return numbers.get(member.user_id) == member.membership_number
