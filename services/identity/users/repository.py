"""SQL of users and their linked accounts, in system sessions."""

import uuid

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.users.models import LinkedAccount, User


async def by_id(session: AsyncSession, user_id: uuid.UUID) -> User | None:
    return await session.get(User, user_id)


async def locked(session: AsyncSession, user_id: uuid.UUID) -> User:
    """The user; until the end of the transaction, no other transaction can lock the same one."""
    return (await session.scalars(select(User).where(User.id == user_id).with_for_update())).one()


async def by_account(session: AsyncSession, issuer: str, subject: str) -> User | None:
    return await session.scalar(
        select(User)
        .join(LinkedAccount, LinkedAccount.user_id == User.id)
        .where(LinkedAccount.issuer == issuer, LinkedAccount.subject == subject)
    )


async def by_verified_email(session: AsyncSession, email: str) -> User | None:
    return await session.scalar(select(User).where(User.email == email, User.email_verified))


async def add_verified(session: AsyncSession, *, email: str, name: str) -> User:
    """The user with that verified address: a new one, unless another request has just made it."""
    statement = (
        insert(User)
        .values(email=email, email_verified=True, name=name)
        .on_conflict_do_nothing(index_elements=["email"], index_where=text("email_verified"))
    )
    await session.execute(statement)
    return (await session.scalars(select(User).where(User.email == email, User.email_verified))).one()


async def add_unverified(session: AsyncSession, *, email: str | None, name: str) -> User:
    user = User(email=email, email_verified=False, name=name)
    session.add(user)
    await session.flush()
    return user


async def link(session: AsyncSession, user: User, *, issuer: str, subject: str) -> User:
    """Link an account to a user; returns the linked user, another one if another request was first."""
    statement = insert(LinkedAccount).values(issuer=issuer, subject=subject, user_id=user.id)
    await session.execute(statement.on_conflict_do_nothing(index_elements=["issuer", "subject"]))
    return (
        await session.scalars(
            select(User)
            .join(LinkedAccount, LinkedAccount.user_id == User.id)
            .where(LinkedAccount.issuer == issuer, LinkedAccount.subject == subject)
        )
    ).one()
