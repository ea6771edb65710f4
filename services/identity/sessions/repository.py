"""SQL of browser sessions; all of it in system sessions, and by hash or by user."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Interval, and_, bindparam, delete, func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.members.models import Membership
from services.identity.sessions.models import BrowserSession
from services.identity.tenants.models import Tenant
from shared.events.identity import TenantRole

SEEN_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Holder:
    """The user that a valid session speaks for. `role` is null unless the user belongs to the active tenant now."""

    session_id: uuid.UUID
    user_id: uuid.UUID
    tenant_id: uuid.UUID | None
    role: TenantRole | None
    expires_at: datetime
    membership_number: int
    unseen_lately: bool


def _counts(idle: timedelta | ColumnElement[timedelta]) -> ColumnElement[bool]:
    return and_(
        BrowserSession.revoked_at.is_(None),
        BrowserSession.expires_at > func.now(),
        BrowserSession.last_seen_at > func.now() - idle,
    )


_HOLDERS = (
    select(
        BrowserSession.id,
        BrowserSession.user_id,
        Tenant.tenant_id,
        Membership.role,
        BrowserSession.expires_at,
        func.coalesce(Membership.number, 1),
        (BrowserSession.last_seen_at < func.now() - SEEN_EVERY).label("unseen_lately"),
    )
    .outerjoin(
        Membership,
        and_(
            Membership.tenant_id == BrowserSession.active_tenant_id,
            Membership.user_id == BrowserSession.user_id,
            Membership.role.is_not(None),
        ),
    )
    .outerjoin(Tenant, and_(Tenant.tenant_id == Membership.tenant_id, Tenant.deleted_at.is_(None)))
    .where(_counts(bindparam("idle", type_=Interval())))
)
# Every exchange runs this.
_HOLDER = _HOLDERS.where(BrowserSession.secret_hash == bindparam("secret_hash"))
_HOLDER_BY_ID = _HOLDERS.where(BrowserSession.id == bindparam("session_id"))


async def holder(session: AsyncSession, secret_hash: bytes, *, idle: timedelta) -> Holder | None:
    return _holder((await session.execute(_HOLDER, {"secret_hash": secret_hash, "idle": idle})).one_or_none())


async def holder_by_id(session: AsyncSession, session_id: uuid.UUID, *, idle: timedelta) -> Holder | None:
    """As `holder`, for a session that was found by its hash before."""
    return _holder((await session.execute(_HOLDER_BY_ID, {"session_id": session_id, "idle": idle})).one_or_none())


def _holder(row: Any | None) -> Holder | None:
    if row is None:
        return None
    session_id, user_id, tenant_id, role, expires_at, number, unseen_lately = row
    return Holder(
        session_id, user_id, tenant_id, role if tenant_id is not None else None, expires_at, number, unseen_lately
    )


async def mark_seen(session: AsyncSession, session_id: uuid.UUID) -> None:
    await session.execute(update(BrowserSession).where(BrowserSession.id == session_id).values(last_seen_at=func.now()))


async def add(session: AsyncSession, row: BrowserSession) -> BrowserSession:
    session.add(row)
    await session.flush()
    return row


async def by_hash(session: AsyncSession, secret_hash: bytes, *, idle: timedelta) -> BrowserSession | None:
    """A valid session, locked for change."""
    return await session.scalar(
        select(BrowserSession).where(BrowserSession.secret_hash == secret_hash, _counts(idle)).with_for_update()
    )


async def of_user(
    session: AsyncSession, user_id: uuid.UUID, session_id: uuid.UUID, *, idle: timedelta
) -> BrowserSession | None:
    """One of a user's valid sessions, locked for change."""
    return await session.scalar(
        select(BrowserSession)
        .where(BrowserSession.id == session_id, BrowserSession.user_id == user_id, _counts(idle))
        .with_for_update()
    )


async def beyond(session: AsyncSession, user_id: uuid.UUID, *, keep: int, idle: timedelta) -> Sequence[BrowserSession]:
    """A user's valid sessions, except the `keep` seen last; locked for change."""
    return (
        await session.scalars(
            select(BrowserSession)
            .where(BrowserSession.user_id == user_id, _counts(idle))
            .order_by(BrowserSession.last_seen_at.desc(), BrowserSession.id.desc())
            .offset(keep)
            .with_for_update()
        )
    ).all()


async def page(
    session: AsyncSession,
    user_id: uuid.UUID,
    *,
    limit: int,
    after: tuple[datetime, uuid.UUID] | None,
    idle: timedelta,
) -> Sequence[BrowserSession]:
    """A user's sessions that count, oldest first; one more than `limit` if there is one."""
    statement = (
        select(BrowserSession)
        .where(BrowserSession.user_id == user_id, _counts(idle))
        .order_by(BrowserSession.created_at, BrowserSession.id)
    )
    if after is not None:
        statement = statement.where(tuple_(BrowserSession.created_at, BrowserSession.id) > after)
    return (await session.scalars(statement.limit(limit + 1))).all()


async def last_tenant(session: AsyncSession, user_id: uuid.UUID) -> uuid.UUID | None:
    """The tenant a user worked in last."""
    return await session.scalar(
        select(BrowserSession.active_tenant_id)
        .where(BrowserSession.user_id == user_id, BrowserSession.active_tenant_id.is_not(None))
        .order_by(BrowserSession.last_seen_at.desc())
        .limit(1)
    )


async def forget_ended(session: AsyncSession, *, keep: timedelta) -> None:
    """Delete sessions that ended longer than `keep` ago."""
    limit = func.now() - keep
    await session.execute(
        delete(BrowserSession).where(or_(BrowserSession.expires_at < limit, BrowserSession.revoked_at < limit))
    )
