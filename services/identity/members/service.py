"""Members of a tenant and their roles.

Guarantees: a tenant never loses its last owner, also when two requests try at once (changes of one tenant's members
wait for each other on the tenant's row); only owners make, change or remove owners; who leaves loses its API keys of
this tenant in the same transaction.
"""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.api_keys import service as api_keys
from services.identity.members import repository
from services.identity.members.errors import AlreadyMember, LastOwner, OwnersOnly
from services.identity.members.models import Membership
from services.identity.members.repository import Member
from services.identity.tenants import repository as tenants
from shared.auth import Principal, Scope
from shared.errors import Forbidden, NotFound
from shared.events.identity import MembershipChanged, TenantRole
from shared.outbox import publish
from shared.tenancy import tenant_of


async def listed(
    session: AsyncSession, principal: Principal, *, limit: int, after: tuple[datetime, uuid.UUID] | None
) -> Sequence[Member]:
    """Every member may know the others; an API key only with `members:admin`, and not if tied to a project."""
    _require_insight(principal)
    return await repository.page(session, limit=limit, after=after)


async def change_role(session: AsyncSession, principal: Principal, *, user_id: uuid.UUID, role: TenantRole) -> Member:
    """Give a member another role.

    Raises:
        NotFound: no member of this tenant.
        OwnersOnly: the caller is no owner, and the member is or would become one.
        LastOwner: nobody else would own the tenant.
    """
    principal.require(Scope.MEMBERS_ADMIN)
    membership = await _member_for_change(session, user_id)
    check_may_grant(principal, role, membership.role)
    if membership.role != role:
        await _set_role(session, membership, role)
    member = await repository.by_user(session, user_id)
    if member is None:
        raise NotFound
    return member


async def remove(session: AsyncSession, principal: Principal, *, user_id: uuid.UUID) -> None:
    """Remove a member, or leave.

    Raises:
        As `change_role`.
    """
    if user_id == principal.user_id:
        _require_insight(principal)
    else:
        principal.require(Scope.MEMBERS_ADMIN)
    membership = await _member_for_change(session, user_id)
    if user_id != principal.user_id:
        check_may_grant(principal, membership.role)
    await _set_role(session, membership, None)
    await api_keys.revoke_all_of(session, user_id=user_id)


async def join(session: AsyncSession, *, user_id: uuid.UUID, role: TenantRole) -> None:
    """Make a user a member of the bound tenant.

    Raises:
        NotFound: the tenant has been deleted.
        AlreadyMember: the user belongs to it.
    """
    if await tenants.active(session) is None:
        raise NotFound
    membership = await repository.past_or_present(session, user_id)
    if membership is None:
        membership = await repository.add(session, Membership(user_id=user_id, role=role))
        _announce(session, membership)
    elif membership.role is None:
        membership.created_at = datetime.now(UTC)
        await _set_role(session, membership, role)
    else:
        raise AlreadyMember


def check_may_grant(principal: Principal, *roles: TenantRole | None) -> None:
    """Raises OwnersOnly: one of the roles given or taken is `owner`, and the caller is none."""
    if "owner" in roles and principal.tenant_role != "owner":
        raise OwnersOnly


async def _member_for_change(session: AsyncSession, user_id: uuid.UUID) -> Membership:
    if await tenants.active(session) is None:
        raise NotFound
    membership = await repository.past_or_present(session, user_id)
    if membership is None or membership.role is None:
        raise NotFound
    return membership


async def _set_role(session: AsyncSession, membership: Membership, role: TenantRole | None) -> None:
    if membership.role == "owner" and await repository.count_owners(session) == 1:
        raise LastOwner
    membership.role = role
    membership.revision += 1
    _announce(session, membership)


def _announce(session: AsyncSession, membership: Membership) -> None:
    changed = MembershipChanged(tenant_id=tenant_of(session), user_id=membership.user_id, role=membership.role)
    publish(session, changed, sequence=membership.revision)


def _require_insight(principal: Principal) -> None:
    if Scope.MEMBERS_ADMIN not in principal.limit or principal.project_id is not None:
        raise Forbidden
