"""SQL of tenants. `of_user` is for system sessions: it reads across tenants, always by user."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, and_, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.members.models import Membership
from services.identity.tenants.models import Tenant
from shared.events.identity import TenantRole


@dataclass(frozen=True, slots=True)
class TenantOfUser:
    """A tenant as one of its members sees it."""

    id: uuid.UUID
    name: str
    role: TenantRole | None
    revision: int
    created_at: datetime
    updated_at: datetime


async def of_user(
    session: AsyncSession,
    user_id: uuid.UUID,
    *,
    only: uuid.UUID | None = None,
    after: tuple[datetime, uuid.UUID] | None = None,
    limit: int | None = None,
) -> Sequence[TenantOfUser]:
    """The tenants a user belongs to, oldest first."""
    statement = _of_user().where(Membership.user_id == user_id)
    if only is not None:
        statement = statement.where(Tenant.tenant_id == only)
    if after is not None:
        statement = statement.where(tuple_(Tenant.created_at, Tenant.tenant_id) > after)
    return [seen_by(tenant, role) for tenant, role in await session.execute(statement.limit(limit))]


async def count_of_user(session: AsyncSession, user_id: uuid.UUID) -> int:
    """How many existing tenants a user owns or made; for the system session."""
    owned = select(Membership.tenant_id).where(Membership.user_id == user_id, Membership.role == "owner")
    mine = select(func.count(Tenant.tenant_id)).where(
        Tenant.deleted_at.is_(None), or_(Tenant.created_by == user_id, Tenant.tenant_id.in_(owned))
    )
    return (await session.execute(mine)).scalar_one()


async def made_since(session: AsyncSession, user_id: uuid.UUID, since: datetime) -> Sequence[datetime]:
    """When a user made tenants lately, including deleted ones, oldest first; for the system session."""
    made = select(Tenant.created_at).where(Tenant.created_by == user_id, Tenant.created_at > since)
    return (await session.scalars(made.order_by(Tenant.created_at))).all()


async def new_id(session: AsyncSession) -> uuid.UUID:
    """An id for a tenant about to be made: its transaction is bound to it from the start."""
    made: uuid.UUID = (await session.execute(select(func.uuidv7()))).scalar_one()
    return made


async def active(session: AsyncSession) -> Tenant | None:
    """The bound tenant, unless deleted; locked for change. Changes of its members take the same lock."""
    return await session.scalar(select(Tenant).where(Tenant.deleted_at.is_(None)).with_for_update())


async def add(session: AsyncSession, tenant: Tenant) -> Tenant:
    session.add(tenant)
    await session.flush()
    return tenant


def _of_user() -> Select[Tenant, TenantRole | None]:
    return (
        select(Tenant, Membership.role)
        .join(Membership, and_(Membership.tenant_id == Tenant.tenant_id, Membership.role.is_not(None)))
        .where(Tenant.deleted_at.is_(None))
        .order_by(Tenant.created_at, Tenant.tenant_id)
    )


def seen_by(tenant: Tenant, role: TenantRole | None) -> TenantOfUser:
    """The tenant as a member in that role sees it."""
    return TenantOfUser(tenant.tenant_id, tenant.name, role, tenant.revision, tenant.created_at, tenant.updated_at)
