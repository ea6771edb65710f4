"""SQL of memberships."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.members.models import Membership
from services.identity.tenants.models import Tenant
from services.identity.users.models import User
from shared.events.identity import TenantRole


@dataclass(frozen=True, slots=True)
class Member:
    """A member with the name that other members see."""

    user_id: uuid.UUID
    name: str
    email: str | None
    role: TenantRole | None
    joined_at: datetime


_MEMBER = (
    select(Membership.user_id, User.name, User.email, Membership.role, Membership.created_at)
    .join(User, User.id == Membership.user_id)
    .where(Membership.role.is_not(None))
)


async def add(session: AsyncSession, membership: Membership) -> Membership:
    session.add(membership)
    await session.flush()
    return membership


async def page(session: AsyncSession, *, limit: int, after: tuple[datetime, uuid.UUID] | None) -> Sequence[Member]:
    """Members in the order they joined; one more than `limit` if there is one."""
    statement = _MEMBER.order_by(Membership.created_at, Membership.user_id)
    if after is not None:
        statement = statement.where(tuple_(Membership.created_at, Membership.user_id) > after)
    return [Member(*row) for row in await session.execute(statement.limit(limit + 1))]


async def by_user(session: AsyncSession, user_id: uuid.UUID) -> Member | None:
    row = (await session.execute(_MEMBER.where(Membership.user_id == user_id))).one_or_none()
    return Member(*row) if row is not None else None


async def present(session: AsyncSession, user_id: uuid.UUID) -> Membership | None:
    """The membership of a user who belongs to the tenant, unless the tenant is deleted."""
    return await session.scalar(
        select(Membership)
        .join(Tenant, Tenant.tenant_id == Membership.tenant_id)
        .where(Membership.user_id == user_id, Membership.role.is_not(None), Tenant.deleted_at.is_(None))
    )


async def numbers(session: AsyncSession, user_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, int]:
    """The membership numbers of those of the users who belong to the tenant, while it exists."""
    rows = await session.execute(
        select(Membership.user_id, Membership.number)
        .join(Tenant, Tenant.tenant_id == Membership.tenant_id)
        .where(Membership.user_id.in_(user_ids), Membership.role.is_not(None), Tenant.deleted_at.is_(None))
    )
    return {row[0]: row[1] for row in rows}


async def past_or_present(session: AsyncSession, user_id: uuid.UUID) -> Membership | None:
    """The membership of a user who belongs, or once belonged, to the tenant; locked for change."""
    return await session.scalar(select(Membership).where(Membership.user_id == user_id).with_for_update())


async def count(session: AsyncSession) -> int:
    return (
        await session.execute(select(func.count(Membership.user_id)).where(Membership.role.is_not(None)))
    ).scalar_one()


async def count_owners(session: AsyncSession) -> int:
    return (
        await session.execute(select(func.count(Membership.user_id)).where(Membership.role == "owner"))
    ).scalar_one()
