"""API keys: made once, shown once, and counted only while their maker is a member.

A key acts as its maker. The role is looked up at every exchange, so a demotion reaches the keys at once; leaving the
tenant revokes them for good.
"""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.api_keys import repository
from services.identity.api_keys.errors import ExpiryInvalid, ScopesTooWide
from services.identity.api_keys.models import ApiKey
from services.identity.credentials import hashed, new_api_key, shown_part
from shared.auth import Principal, PrincipalKind, Scope
from shared.errors import Forbidden, NotFound, Unauthenticated
from shared.events.identity import ApiKeyRevoked
from shared.outbox import publish


async def principal_of(session: AsyncSession, api_key: str) -> Principal:
    """Whom a key speaks for; the session is a system session.

    Raises:
        Unauthenticated: unknown, expired or revoked, or its maker has left.
    """
    holder = await repository.holder(session, hashed(api_key))
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
    )


async def create(
    session: AsyncSession,
    principal: Principal,
    *,
    name: str,
    scopes: Sequence[Scope],
    expires_at: datetime | None,
    project_id: uuid.UUID | None,
) -> tuple[ApiKey, str]:
    """A new key of the caller, and the key itself, which is not kept.

    Raises:
        Forbidden: not an administrator's, or `ScopesTooWide`.
        ExpiryInvalid: in the past, or after the expiry of the key this is made with.
    """
    principal.require(Scope.KEYS_ADMIN)
    if principal.user_id is None:
        raise Forbidden("Only a user can make a key.")
    if not set(scopes) <= principal.limit:
        raise ScopesTooWide
    await _check_expiry(session, principal, expires_at)
    return await store(
        session, user_id=principal.user_id, name=name, scopes=scopes, expires_at=expires_at, project_id=project_id
    )


async def store(
    session: AsyncSession,
    *,
    user_id: uuid.UUID,
    name: str,
    scopes: Sequence[Scope],
    expires_at: datetime | None = None,
    project_id: uuid.UUID | None = None,
) -> tuple[ApiKey, str]:
    """Make a key without asking who may."""
    key = new_api_key()
    row = ApiKey(
        user_id=user_id,
        name=name,
        prefix=shown_part(key),
        key_hash=hashed(key),
        scopes=sorted({scope.value for scope in scopes}),
        project_id=project_id,
        expires_at=expires_at,
    )
    return await repository.add(session, row), key


async def _check_expiry(session: AsyncSession, principal: Principal, expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise ExpiryInvalid
    if principal.kind is PrincipalKind.API_KEY and principal.credential_id is not None:
        # Else a key that is about to expire could live on for ever in one it makes.
        maker = await repository.by_id(session, principal.credential_id)
        if maker is None:
            raise Unauthenticated
        if maker.expires_at is not None and (expires_at is None or expires_at > maker.expires_at):
            raise ExpiryInvalid


async def listed(
    session: AsyncSession, principal: Principal, *, limit: int, after: tuple[datetime, uuid.UUID] | None
) -> Sequence[ApiKey]:
    """The tenant's keys."""
    principal.require(Scope.KEYS_ADMIN)
    return await repository.page(session, limit=limit, after=after)


async def revoke(session: AsyncSession, principal: Principal, *, key_id: uuid.UUID) -> None:
    """End a key of the tenant, whoever made it.

    Raises:
        NotFound: unknown here, or already revoked.
    """
    principal.require(Scope.KEYS_ADMIN)
    key = await repository.by_id(session, key_id)
    if key is None:
        raise NotFound
    end(session, key)


async def revoke_all_of(session: AsyncSession, *, user_id: uuid.UUID) -> None:
    """End the keys of a member who leaves."""
    for key in await repository.of_user(session, user_id):
        end(session, key)


def end(session: AsyncSession, key: ApiKey) -> None:
    """Revoke and announce it."""
    key.revoked_at = datetime.now(UTC)
    key.revision += 1
    publish(session, ApiKeyRevoked(api_key_id=key.id, user_id=key.user_id), sequence=key.revision)
