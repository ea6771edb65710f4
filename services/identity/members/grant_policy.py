"""What a caller may grant: no more than it has, and what it granted ends when it no longer has it.

A grant is a key, an invitation or a higher role. It is checked against what the grantor is *now*, under the lock of the
tenant's row, which every change of members, keys and invitations takes first: a grantor that is demoted, removed or
revoked at the same moment has either granted before, and the grant ends with it, or can grant nothing any more.

The grantor is a user with a role and, where a key is used, that key besides:

- a role is given by an owner or admin, and none above its own;
- a key gives `member` with `members:admin`; `admin` and `owner` come with every scope, so only a key that has every
  scope gives them;
- a key that is tied to a project grants nothing: roles and keys are the tenant's.
"""

import uuid
from collections.abc import Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.api_keys import repository as api_keys
from services.identity.api_keys.models import ApiKey
from services.identity.members import repository
from services.identity.members.errors import GrantTooWide, OwnersOnly
from services.identity.tenants import repository as tenants
from shared.auth import ALL_SCOPES, Principal, PrincipalKind, Scope
from shared.errors import Forbidden, NotFound, Unauthenticated
from shared.events.identity import TenantRole

_RANK: Final[dict[TenantRole | None, int]] = {None: 0, "member": 1, "admin": 2, "owner": 3}


async def check_grantor(session: AsyncSession, principal: Principal, scope: Scope) -> ApiKey | None:
    """Lock the tenant; returns the key the caller came with, if it came with one.

    Raises:
        NotFound: the tenant is deleted.
        Unauthenticated: the key, or the user's membership, has ended meanwhile.
        Forbidden: not an owner or admin, or without the scope.
    """
    principal.require(scope)
    if principal.user_id is None:
        raise Forbidden("Only a user can grant access to others.")
    if await tenants.active(session) is None:
        raise NotFound
    membership = await repository.present(session, principal.user_id)
    if membership is None:
        raise Unauthenticated
    if _RANK[membership.role] < _RANK["admin"]:
        raise Forbidden
    if principal.kind is not PrincipalKind.API_KEY or principal.credential_id is None:
        return None
    key = await api_keys.counting(session, principal.credential_id)
    if key is None:
        raise Unauthenticated
    return key


async def check_role(session: AsyncSession, principal: Principal, role: TenantRole) -> None:
    """Whether the caller may give `role`; called after `check_grantor`.

    Raises:
        OwnersOnly: `owner`, and the caller is not one.
        GrantTooWide: the role comes with scopes that the caller's key lacks.
    """
    if principal.user_id is None or not await _reaches(session, principal.user_id, role):
        raise OwnersOnly
    if role != "member" and not principal.limit >= ALL_SCOPES:
        raise GrantTooWide


async def still_stands(
    session: AsyncSession, *, user_id: uuid.UUID, key_id: uuid.UUID | None, role: TenantRole
) -> bool:
    """Whether what a user, perhaps with a key, granted earlier could be granted by both of them now."""
    if not await _reaches(session, user_id, role):
        return False
    if key_id is None:
        return True
    key = await api_keys.counting(session, key_id)
    return key is not None and _gives(key.scopes, role)


def beyond(role: TenantRole | None) -> Sequence[TenantRole]:
    """The roles that a user in `role` may not give."""
    if _RANK[role] < _RANK["admin"]:
        return ("member", "admin", "owner")
    return ("owner",) if role == "admin" else ()


async def _reaches(session: AsyncSession, user_id: uuid.UUID, role: TenantRole) -> bool:
    membership = await repository.present(session, user_id)
    return membership is not None and role not in beyond(membership.role)


def _gives(scopes: Sequence[str], role: TenantRole) -> bool:
    needed = {Scope.MEMBERS_ADMIN} if role == "member" else ALL_SCOPES
    return needed <= {Scope(scope) for scope in scopes}
