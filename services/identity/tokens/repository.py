"""SQL of signing keys."""

from collections.abc import Sequence

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.tokens.models import SigningKey


async def lock(session: AsyncSession) -> None:
    """Until the end of the transaction, no other process makes keys."""
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtext("identity:signing-keys"))))


async def all_keys(session: AsyncSession) -> Sequence[SigningKey]:
    """In order of activation."""
    return (await session.scalars(select(SigningKey).order_by(SigningKey.activates_at, SigningKey.kid))).all()


async def add(session: AsyncSession, key: SigningKey) -> None:
    session.add(key)
    await session.flush()


async def delete(session: AsyncSession, kids: Sequence[str]) -> None:
    if kids:
        await session.execute(sql_delete(SigningKey).where(SigningKey.kid.in_(kids)))
