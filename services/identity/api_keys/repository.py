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


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a key that counts speaks for."""

    key_id: uuid.UUID
    tenant_id: uuid.UUID
    user_id: uuid.UUID
    role: TenantRole | None
    scopes: Sequence[str]
    project_id: uuid.UUID | None
    unused_lately: bool


# Every exchange runs this. The membership is that of the key's own tenant and user: once gone, the key does not count.
_HOLDER = (
    select(
        ApiKey.id,
        ApiKey.tenant_id,
        ApiKey.user_id,
        Membership.role,
        ApiKey.scopes,
        ApiKey.project_id,
        or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < func.now() - USED_EVERY).label("unused_lately"),
    )
    .join(Membership, and_(Membership.tenant_id == ApiKey.tenant_id, Membership.user_id == ApiKey.user_id))
    .join(Tenant, Tenant.tenant_id == ApiKey.tenant_id)
    .where(
        ApiKey.key_hash == bindparam("key_hash"),
        ApiKey.revoked_at.is_(None),
        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()),
        Membership.role.is_not(None),
        Tenant.deleted_at.is_(None),
    )
)


async def holder(session: AsyncSession, key_hash: bytes) -> Holder | None:
    """For the system session: the tenant is what this finds out."""
    row = (await session.execute(_HOLDER, {"key_hash": key_hash})).one_or_none()
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


async def by_name(session: AsyncSession, name: str) -> Sequence[ApiKey]:
    """The keys of that name that still count, locked for change."""
    return (
        await session.scalars(
            select(ApiKey)
            .where(
                ApiKey.name == name,
                ApiKey.revoked_at.is_(None),
                or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()),
            )
            .with_for_update()
        )
    ).all()


async def of_user(session: AsyncSession, user_id: uuid.UUID) -> Sequence[ApiKey]:
    """A member's keys that are not revoked, locked for change."""
    return (
        await session.scalars(
            select(ApiKey).where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None)).with_for_update()
        )
    ).all()
