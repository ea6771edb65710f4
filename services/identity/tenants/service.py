"""Tenants: their maker owns them; a user sees those it belongs to; changing one needs it to be active."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.members import repository as members
from services.identity.members.models import Membership
from services.identity.sessions import service as sessions
from services.identity.sessions.service import SignedIn
from services.identity.settings import IdentitySettings
from services.identity.tenants import repository
from services.identity.tenants.models import Tenant
from services.identity.tenants.repository import TenantOfUser
from services.identity.users import repository as users
from shared.auth import Principal, PrincipalKind, Scope
from shared.errors import Forbidden, NotFound, QuotaExceeded, RateLimited
from shared.etags import check_match
from shared.events.identity import MembershipChanged, TenantCreated, TenantDeleted
from shared.outbox import publish
from shared.transactions import Transactions

_HOUR: Final = timedelta(hours=1)


async def create(
    transactions: Transactions, *, owner_id: uuid.UUID, name: str, settings: IdentitySettings
) -> TenantOfUser:
    """A new tenant and its first owner. Requests of one user wait for each other, so that limits hold for many at once.

    Raises:
        QuotaExceeded: the user has the most tenants it may have.
        RateLimited: it has made the most it may make in an hour.
    """
    async with transactions.system() as session:
        await users.locked(session, owner_id)
        await check_quota(session, owner_id, settings=settings)
        tenant_id = await repository.new_id(session)
        return await create_as(transactions, tenant_id, owner_id=owner_id, name=name, within=session)


async def check_quota(session: AsyncSession, user_id: uuid.UUID, *, settings: IdentitySettings) -> None:
    """Whether the user may make another tenant. Those it made count while they exist, also when others own them by now.

    Raises:
        QuotaExceeded, RateLimited: see `create`.
    """
    if (used := await repository.count_of_user(session, user_id)) >= settings.max_tenants_per_user:
        raise QuotaExceeded("tenants_per_user", limit=settings.max_tenants_per_user, used=used)
    recent = await repository.made_since(session, user_id, datetime.now(UTC) - _HOUR)
    if len(recent) >= settings.max_new_tenants_per_hour:
        wait = recent[-settings.max_new_tenants_per_hour] + _HOUR - datetime.now(UTC)
        raise RateLimited(
            "You have created too many tenants recently; try again later.", retry_after=wait.total_seconds()
        )


async def create_as(
    transactions: Transactions,
    tenant_id: uuid.UUID,
    *,
    owner_id: uuid.UUID,
    name: str,
    within: AsyncSession,
) -> TenantOfUser:
    """As `create`, with an id made before, in one transaction bound to it. For callers that hold a system session
    already: if many took a second one at once, all would starve."""
    async with transactions.tenant(tenant_id, within=within) as session:
        tenant = await repository.add(session, Tenant(name=name, created_by=owner_id))
        owner = await members.add(session, Membership(user_id=owner_id, role="owner"))
        publish(session, TenantCreated(tenant_id=tenant_id, name=name, owner_id=owner_id), sequence=tenant.revision)
        joined = MembershipChanged(tenant_id=tenant_id, user_id=owner_id, role="owner")
        publish(session, joined, sequence=owner.revision)
        return repository.seen_by(tenant, "owner")


async def all_of(
    session: AsyncSession,
    principal: Principal,
    *,
    after: tuple[datetime, uuid.UUID] | None = None,
    limit: int | None = None,
) -> Sequence[TenantOfUser]:
    """The tenants the caller may use, oldest first: all of a signed-in user's, but only the one of an API key.

    Raises:
        Forbidden: the caller is a service.
    """
    if principal.user_id is None:
        raise Forbidden("Only users belong to tenants; services do not.")
    only = None if principal.kind is PrincipalKind.SESSION else principal.tenant_id
    return await repository.of_user(session, principal.user_id, only=only, after=after, limit=limit)


async def get(session: AsyncSession, principal: Principal, *, tenant_id: uuid.UUID) -> TenantOfUser:
    """Raises NotFound: there is no such tenant, or the caller does not belong to it."""
    found = [tenant for tenant in await all_of(session, principal) if tenant.id == tenant_id]
    if not found:
        raise NotFound
    return found[0]


async def rename(
    session: AsyncSession, principal: Principal, *, tenant_id: uuid.UUID, name: str, if_match: str | None
) -> TenantOfUser:
    """Raises NotFound: not the active tenant. PreconditionFailed: changed since it was read."""
    tenant = await _for_change(session, principal, tenant_id, if_match)
    tenant.name = name
    tenant.revision += 1
    await session.flush()
    return repository.seen_by(tenant, principal.tenant_role)


async def delete(session: AsyncSession, principal: Principal, *, tenant_id: uuid.UUID, if_match: str | None) -> None:
    """End the active tenant for all its members.

    Raises:
        NotFound: not the active tenant.
        Forbidden: the caller is not an owner.
    """
    tenant = await _for_change(session, principal, tenant_id, if_match)
    membership = await members.present(session, principal.user_id) if principal.user_id is not None else None
    if principal.tenant_role != "owner" or membership is None or membership.role != "owner":
        raise Forbidden("Only an owner can delete the tenant.")
    tenant.deleted_at = datetime.now(UTC)
    tenant.revision += 1
    publish(session, TenantDeleted(tenant_id=tenant.tenant_id), sequence=tenant.revision)


async def activate(
    session: AsyncSession, principal: Principal, caller: SignedIn, *, tenant_id: uuid.UUID, settings: IdentitySettings
) -> TenantOfUser:
    """Switch the caller's session to another of its tenants.

    Raises:
        NotFound: there is no such tenant, or the caller does not belong to it.
    """
    tenant = await get(session, principal, tenant_id=tenant_id)
    await sessions.activate(session, caller, tenant_id=tenant_id, settings=settings)
    return tenant


async def _for_change(
    session: AsyncSession, principal: Principal, tenant_id: uuid.UUID, if_match: str | None
) -> Tenant:
    if tenant_id != principal.tenant_id:
        raise NotFound("The tenant does not exist, or is not your active tenant.")
    principal.require(Scope.TENANT_ADMIN)
    tenant = await repository.active(session)
    if tenant is None:
        raise NotFound
    check_match(if_match, tenant.revision)
    return tenant
