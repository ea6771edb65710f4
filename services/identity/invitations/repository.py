"""SQL of invitations."""

import uuid
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.invitations.models import Invitation
from shared.events.identity import TenantRole

_PENDING = (Invitation.accepted_at.is_(None), Invitation.revoked_at.is_(None))


async def add(session: AsyncSession, invitation: Invitation) -> Invitation:
    session.add(invitation)
    await session.flush()
    return invitation


async def revoke_made_with(session: AsyncSession, key_ids: Sequence[uuid.UUID]) -> None:
    """Revoke those that were sent with one of these keys."""
    await session.execute(
        update(Invitation).where(Invitation.invited_by_key.in_(key_ids), *_PENDING).values(revoked_at=func.now())
    )


async def revoke_beyond(session: AsyncSession, user_id: uuid.UUID, roles: Sequence[TenantRole]) -> None:
    """Revoke those by which a user invited into one of these roles."""
    await session.execute(
        update(Invitation)
        .where(Invitation.invited_by == user_id, Invitation.role.in_(roles), *_PENDING)
        .values(revoked_at=func.now())
    )


async def count_open(session: AsyncSession) -> int:
    waiting = select(func.count(Invitation.id)).where(*_PENDING, Invitation.expires_at > func.now())
    return (await session.execute(waiting)).scalar_one()


async def revoke_pending_of(session: AsyncSession, email: str) -> None:
    await session.execute(update(Invitation).where(Invitation.email == email, *_PENDING).values(revoked_at=func.now()))


async def page(session: AsyncSession, *, limit: int, after: tuple[datetime, uuid.UUID] | None) -> Sequence[Invitation]:
    """Neither accepted nor revoked, oldest first; one more than `limit` if there is one."""
    statement = select(Invitation).where(*_PENDING).order_by(Invitation.created_at, Invitation.id)
    if after is not None:
        statement = statement.where(tuple_(Invitation.created_at, Invitation.id) > after)
    return (await session.scalars(statement.limit(limit + 1))).all()


async def pending_by_id(session: AsyncSession, invitation_id: uuid.UUID) -> Invitation | None:
    """Locked for change."""
    return await session.scalar(select(Invitation).where(Invitation.id == invitation_id, *_PENDING).with_for_update())


async def tenant_of_open(session: AsyncSession, token_hash: bytes) -> uuid.UUID | None:
    """The tenant that an open invitation leads to; for the system session."""
    return await session.scalar(
        select(Invitation.tenant_id).where(
            Invitation.token_hash == token_hash, Invitation.expires_at > func.now(), *_PENDING
        )
    )


async def is_invited(session: AsyncSession, email: str) -> bool:
    """Whether an open invitation waits for that address anywhere; for the system session."""
    waiting = select(Invitation.id).where(Invitation.email == email, Invitation.expires_at > func.now(), *_PENDING)
    return (await session.execute(waiting.limit(1))).first() is not None


async def open_by_hash(session: AsyncSession, token_hash: bytes) -> Invitation | None:
    """Locked for change."""
    return await session.scalar(
        select(Invitation)
        .where(Invitation.token_hash == token_hash, Invitation.expires_at > func.now(), *_PENDING)
        .with_for_update()
    )
