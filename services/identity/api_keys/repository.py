"""SQL of API keys."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import and_, bindparam, func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.api_keys.models import ApiKey
from services.identity.members.models import Membership
from services.identity.tenants.models import Tenant
from shared.events.identity import TenantRole

USED_EVERY: Final = timedelta(minutes=1)
# `clock_timestamp()`, not the beginning of a transaction, which may have waited for a lock since.
_COUNTS: Final = (
    ApiKey.revoked_at.is_(None),
    or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.clock_timestamp()),
)


@dataclass(frozen=True, slots=True)
class Holder:
    """The user that a valid key speaks for."""

    key_id: uuid.UUID
    tenant_id: uuid.UUID
    user_id: uuid.UUID
    role: TenantRole | None
    scopes: Sequence[str]
    project_id: uuid.UUID | None
    expires_at: datetime | None
    membership_number: int
    unused_lately: bool


# The membership is that of the key's own tenant and user: once gone, the key does not count.
_HOLDERS = (
    select(
        ApiKey.id,
        ApiKey.tenant_id,
        ApiKey.user_id,
        Membership.role,
        ApiKey.scopes,
        ApiKey.project_id,
        ApiKey.expires_at,
        Membership.number,
        or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < func.now() - USED_EVERY).label("unused_lately"),
    )
    .join(Membership, and_(Membership.tenant_id == ApiKey.tenant_id, Membership.user_id == ApiKey.user_id))
    .join(Tenant, Tenant.tenant_id == ApiKey.tenant_id)
    .where(
        ApiKey.revoked_at.is_(None),
        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()),
        Membership.role.is_not(None),
        Tenant.deleted_at.is_(None),
    )
)
# Every exchange runs this.
_HOLDER = _HOLDERS.where(ApiKey.key_hash == bindparam("key_hash"))
_HOLDER_BY_ID = _HOLDERS.where(ApiKey.id == bindparam("key_id"))


async def holder(session: AsyncSession, key_hash: bytes) -> Holder | None:
    """For the system session, since the tenant is not known before."""
    row = (await session.execute(_HOLDER, {"key_hash": key_hash})).one_or_none()
    return Holder(*row) if row is not None else None


async def holder_by_id(session: AsyncSession, key_id: uuid.UUID) -> Holder | None:
    """As `holder`, for a key that was found by its hash before."""
    row = (await session.execute(_HOLDER_BY_ID, {"key_id": key_id})).one_or_none()
    return Holder(*row) if row is not None else None


async def mark_used(session: AsyncSession, key_id: uuid.UUID) -> None:
    await session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=func.now()))


async def add(session: AsyncSession, key: ApiKey) -> ApiKey:
    session.add(key)
    await session.flush()
    return key


async def page(session: AsyncSession, *, limit: int, after: tuple[datetime, uuid.UUID] | None) -> Sequence[ApiKey]:
    """Keys that are not revoked, oldest first; one more than `limit` if there is one."""
    statement = select(ApiKey).where(ApiKey.revoked_at.is_(None)).order_by(ApiKey.created_at, ApiKey.id)
    if after is not None:
        statement = statement.where(tuple_(ApiKey.created_at, ApiKey.id) > after)
    return (await session.scalars(statement.limit(limit + 1))).all()


async def by_id(session: AsyncSession, key_id: uuid.UUID) -> ApiKey | None:
    """A key that is not revoked, locked for change."""
    return await session.scalar(
        select(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None)).with_for_update()
    )


async def counting(session: AsyncSession, key_id: uuid.UUID) -> ApiKey | None:
    """A key that is neither revoked nor expired."""
    return await session.scalar(select(ApiKey).where(ApiKey.id == key_id, *_COUNTS))


async def count(session: AsyncSession) -> int:
    """How many keys of the tenant are neither revoked nor expired."""
    return (await session.execute(select(func.count(ApiKey.id)).where(*_COUNTS))).scalar_one()


async def made_by(session: AsyncSession, key_ids: Sequence[uuid.UUID]) -> Sequence[ApiKey]:
    """Keys made with one of these, and not revoked; locked for change."""
    return (
        await session.scalars(
            select(ApiKey).where(ApiKey.created_by_key.in_(key_ids), ApiKey.revoked_at.is_(None)).with_for_update()
        )
    ).all()


async def by_name(session: AsyncSession, name: str) -> Sequence[ApiKey]:
    """The keys of that name that are still valid, locked for change."""
    return (await session.scalars(select(ApiKey).where(ApiKey.name == name, *_COUNTS).with_for_update())).all()


async def of_user(session: AsyncSession, user_id: uuid.UUID) -> Sequence[ApiKey]:
    """A member's keys that are not revoked, locked for change."""
    return (
        await session.scalars(
            select(ApiKey).where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None)).with_for_update()
        )
    ).all()
