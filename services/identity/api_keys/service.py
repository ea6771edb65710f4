"""API keys: made once, shown once, and valid only while their maker is a member.

A key acts as its maker. The role is looked up at every exchange, so a demotion reaches the keys at once; leaving the
tenant revokes them for good. A key made with another key has no more scopes, lives no longer, and is revoked with it,
in the same transaction (`services.identity.members.grant_policy`).
"""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.api_keys import repository
from services.identity.api_keys.errors import ExpiryInvalid, ProjectUnknown, ScopesTooWide
from services.identity.api_keys.models import ApiKey
from services.identity.api_keys.repository import Holder
from services.identity.credentials import hashed, new_api_key, shown_part
from services.identity.invitations import repository as invitations
from services.identity.members import grant_policy
from services.identity.projects_client import Projects
from services.identity.settings import IdentitySettings
from services.identity.tenants import repository as tenants
from shared.auth import Principal, PrincipalKind, Scope
from shared.errors import Forbidden, NotFound, QuotaExceeded, Unauthenticated
from shared.events.identity import ApiKeyRevoked
from shared.outbox import publish
from shared.tenancy import tenant_of


async def principal_of(session: AsyncSession, api_key: str) -> Principal:
    """The principal of a key; the session is a system session.

    Raises:
        Unauthenticated: unknown, expired or revoked, or its maker has left.
    """
    return await _principal(session, await repository.holder(session, hashed(api_key)))


async def principal_now(session: AsyncSession, key_id: uuid.UUID) -> Principal:
    """The present principal of a key that was accepted before; raises as `principal_of`."""
    return await _principal(session, await repository.holder_by_id(session, key_id))


async def _principal(session: AsyncSession, holder: Holder | None) -> Principal:
    if holder is None:
        raise Unauthenticated
    if holder.unused_lately:
        await repository.mark_used(session, holder.key_id)
    return Principal(
        kind=PrincipalKind.API_KEY,
        subject=str(holder.user_id),
        user_id=holder.user_id,
        tenant_id=holder.tenant_id,
        tenant_role=holder.role,
        limit=frozenset(Scope(scope) for scope in holder.scopes),
        credential_id=holder.key_id,
        project_id=holder.project_id,
        credential_until=holder.expires_at,
        membership_number=holder.membership_number,
    )


async def create(
    session: AsyncSession,
    principal: Principal,
    projects: Projects,
    *,
    name: str,
    scopes: Sequence[Scope],
    expires_at: datetime | None,
    project_id: uuid.UUID | None,
    settings: IdentitySettings,
) -> tuple[ApiKey, str]:
    """A new key of the caller, and the key itself, which is not kept.

    Raises:
        Forbidden: not an administrator's, or `ScopesTooWide`.
        ExpiryInvalid: in the past, or after the expiry of the key this is made with.
        ProjectUnknown: no project of the tenant.
        QuotaExceeded: the tenant has as many keys as it may have.
    """
    principal.require(Scope.KEYS_ADMIN)
    if not set(scopes) <= principal.limit:
        raise ScopesTooWide
    if project_id is not None and not await projects.has(tenant_of(session), project_id):
        raise ProjectUnknown
    maker = await grant_policy.check_grantor(session, principal, Scope.KEYS_ADMIN)
    _check_expiry(maker, expires_at)
    if (used := await repository.count(session)) >= settings.max_api_keys_per_tenant:
        raise QuotaExceeded("api_keys_per_tenant", limit=settings.max_api_keys_per_tenant, used=used)
    return await store(
        session,
        user_id=_user_of(principal),
        name=name,
        scopes=scopes,
        expires_at=expires_at,
        project_id=project_id,
        created_by_key=None if maker is None else maker.id,
    )


async def store(
    session: AsyncSession,
    *,
    user_id: uuid.UUID,
    name: str,
    scopes: Sequence[Scope],
    expires_at: datetime | None = None,
    project_id: uuid.UUID | None = None,
    created_by_key: uuid.UUID | None = None,
) -> tuple[ApiKey, str]:
    """Make a key without checking who may."""
    key = new_api_key()
    row = ApiKey(
        user_id=user_id,
        name=name,
        prefix=shown_part(key),
        key_hash=hashed(key),
        scopes=sorted({scope.value for scope in scopes}),
        project_id=project_id,
        created_by_key=created_by_key,
        expires_at=expires_at,
    )
    return await repository.add(session, row), key


def _user_of(principal: Principal) -> uuid.UUID:
    if principal.user_id is None:
        raise Forbidden("Only a user can create an API key.")
    return principal.user_id


def _check_expiry(maker: ApiKey | None, expires_at: datetime | None) -> None:
    """A key about to expire must not live on in one it makes."""
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise ExpiryInvalid
    if maker is not None and maker.expires_at is not None and (expires_at is None or expires_at > maker.expires_at):
        raise ExpiryInvalid


async def page(
    session: AsyncSession, principal: Principal, *, limit: int, after: tuple[datetime, uuid.UUID] | None
) -> Sequence[ApiKey]:
    """The tenant's keys."""
    principal.require(Scope.KEYS_ADMIN)
    return await repository.page(session, limit=limit, after=after)


async def revoke(session: AsyncSession, principal: Principal, *, key_id: uuid.UUID) -> None:
    """End a key of the tenant, whoever made it, and everything granted with it.

    Raises:
        NotFound: unknown here, or already revoked.
    """
    principal.require(Scope.KEYS_ADMIN)
    # The lock that grants take: a key it makes at this moment is seen below, or not made.
    key = await repository.by_id(session, key_id) if await tenants.active(session) is not None else None
    if key is None:
        raise NotFound
    await end_all(session, [key])


async def revoke_all_of(session: AsyncSession, *, user_id: uuid.UUID) -> None:
    """End the keys of a member who leaves."""
    await end_all(session, await repository.of_user(session, user_id))


async def end_all(session: AsyncSession, keys: Sequence[ApiKey]) -> None:
    """Revoke and announce keys, the keys made with them, and so on; their open invitations end too."""
    while keys:
        for key in keys:
            _end(session, key)
        await session.flush()
        ended = [key.id for key in keys]
        await invitations.revoke_made_with(session, ended)
        keys = await repository.made_by(session, ended)


def _end(session: AsyncSession, key: ApiKey) -> None:
    key.revoked_at = datetime.now(UTC)
    key.revision += 1
    publish(session, ApiKeyRevoked(api_key_id=key.id, user_id=key.user_id), sequence=key.revision)
