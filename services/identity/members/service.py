"""Members of a tenant and their roles.

Guarantees: a tenant never loses its last owner, also when two requests try at once (changes of one tenant's members
wait for each other on the tenant's row); only owners make, change or remove owners; a role above the caller's own
cannot be given (`grant_policy`); a user who leaves loses its API keys of this tenant in the same transaction, and one
who loses a role the invitations it could no longer send.
"""

import uuid
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.api_keys import service as api_keys
from services.identity.invitations import repository as invitations
from services.identity.members import grant_policy, repository
from services.identity.members.errors import AlreadyMember, LastOwner, OwnersOnly
from services.identity.members.models import Membership
from services.identity.members.repository import Member
from services.identity.tenants import repository as tenants
from shared.auth import Principal, Scope
from shared.errors import Forbidden, NotFound, QuotaExceeded
from shared.events.identity import MembershipChanged, TenantRole
from shared.invalidations.recording import confirm
from shared.outbox import publish
from shared.tenancy import tenant_of


async def page(
    session: AsyncSession, principal: Principal, *, limit: int, after: tuple[datetime, uuid.UUID] | None
) -> Sequence[Member]:
    """Every member may see the others; an API key only with `members:admin`, and not if tied to a project."""
    _require_insight(principal)
    return await repository.page(session, limit=limit, after=after)


async def membership(session: AsyncSession, *, user_id: uuid.UUID) -> Membership:
    """Raises NotFound: not a member of this tenant."""
    found = await repository.present(session, user_id)
    if found is None:
        raise NotFound
    return found


async def membership_numbers(session: AsyncSession, *, user_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, int]:
    """The membership numbers of those of the users who belong to the tenant now; for other services."""
    return await repository.numbers(session, user_ids)


async def change_role(session: AsyncSession, principal: Principal, *, user_id: uuid.UUID, role: TenantRole) -> Member:
    """Give a member another role.

    Raises:
        NotFound: not a member of this tenant.
        OwnersOnly: the caller is not an owner, and the member is or would become one.
        GrantTooWide: the role comes with scopes that the caller's key lacks.
        LastOwner: the tenant would have no owner left.
    """
    await grant_policy.check_grantor(session, principal, Scope.MEMBERS_ADMIN)
    membership = await _member_for_change(session, user_id)
    await _check_may_take(session, principal, membership.role)
    if membership.role != role:
        await grant_policy.check_role(session, principal, role)
        await _set_role(session, membership, role)
    else:
        confirm(session)
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
        await grant_policy.check_grantor(session, principal, Scope.MEMBERS_ADMIN)
        await _check_may_take(session, principal, membership.role)
    member = await repository.by_user(session, user_id)
    await _set_role(session, membership, None)
    await api_keys.revoke_all_of(session, user_id=user_id)
    if member is not None and member.email is not None:
        # Sent while the user was a member: it must not bring them back.
        await invitations.revoke_pending_of(session, member.email)


async def join(session: AsyncSession, *, user_id: uuid.UUID, role: TenantRole, most: int) -> None:
    """Make a user a member of the bound tenant, which has at most `most`.

    Raises:
        NotFound: the tenant has been deleted.
        AlreadyMember: the user belongs to it.
        QuotaExceeded: it is full.
    """
    if await tenants.active(session) is None:
        raise NotFound
    membership = await repository.past_or_present(session, user_id)
    if membership is not None and membership.role is not None:
        raise AlreadyMember
    if (used := await repository.count(session)) >= most:
        raise QuotaExceeded("members_per_tenant", limit=most, used=used)
    if membership is None:
        membership = await repository.add(session, Membership(user_id=user_id, role=role))
        _announce(session, membership)
    else:
        membership.created_at = datetime.now(UTC)
        membership.number += 1
        await _set_role(session, membership, role)


async def _check_may_take(session: AsyncSession, principal: Principal, role: TenantRole | None) -> None:
    """Raises OwnersOnly: the role taken is `owner`, and the caller is not one now."""
    caller = None if principal.user_id is None else await repository.present(session, principal.user_id)
    if role == "owner" and (caller is None or caller.role != "owner"):
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
    await invitations.revoke_beyond(session, membership.user_id, grant_policy.beyond(role))
    _announce(session, membership)


def _announce(session: AsyncSession, membership: Membership) -> None:
    changed = MembershipChanged(
        tenant_id=tenant_of(session),
        user_id=membership.user_id,
        role=membership.role,
        membership_number=membership.number,
    )
    publish(session, changed, sequence=membership.revision)


def _require_insight(principal: Principal) -> None:
    if Scope.MEMBERS_ADMIN not in principal.limit or principal.project_id is not None:
        raise Forbidden
