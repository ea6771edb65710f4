"""Users: found again by their linked account, or by an e-mail address that both sides have verified."""

import re
import uuid
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.users import repository
from services.identity.users.models import User
from shared.errors import NotFound

# What a provider sends is not trusted: Postgres accepts no NUL, and no name has a line feed.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ExternalIdentity:
    """The signed-in user of an OpenID Connect issuer. `email` is as given; it counts only when `email_verified`."""

    issuer: str
    subject: str
    email: str | None
    email_verified: bool
    name: str | None


def normalized_email(email: str) -> str:
    """Addresses are compared without the case of ASCII letters, by which no provider of note tells two mailboxes apart.
    Other letters stay as they are: Unicode's rules make different addresses equal (the Kelvin sign becomes a k)."""
    return email.strip().encode().lower().decode()


async def find_or_create(session: AsyncSession, identity: ExternalIdentity) -> User:
    """The user of an account elsewhere; made at the first sign-in.

    An unverified address links nothing: anyone could enter it at a careless provider and become its owner here.
    """
    email = normalized_email(identity.email) if identity.email and not _CONTROL.search(identity.email) else None
    user = await repository.by_account(session, identity.issuer, identity.subject)
    if user is not None:
        await _note_verification(session, user, email, verified=identity.email_verified)
        return user
    name = _CONTROL.sub("", identity.name or "").strip() or (email or "").partition("@")[0] or "New user"
    if email and identity.email_verified:
        user = await by_verified_email(session, email=email, name=name)
    else:
        user = await repository.add_unverified(session, email=email, name=name)
    return await repository.link(session, user, issuer=identity.issuer, subject=identity.subject)


async def by_verified_email(session: AsyncSession, *, email: str, name: str) -> User:
    """The user with that verified address, made if there is none."""
    email = normalized_email(email)
    user = await repository.by_verified_email(session, email)
    return user if user is not None else await repository.add_verified(session, email=email, name=name)


async def by_id(session: AsyncSession, user_id: uuid.UUID) -> User:
    """Raises NotFound: there is no such user."""
    user = await repository.by_id(session, user_id)
    if user is None:
        raise NotFound
    return user


async def _note_verification(session: AsyncSession, user: User, email: str | None, *, verified: bool) -> None:
    """A user without a verified address gets one as soon as the provider vouches for it and no other user has it."""
    if verified and email and not user.email_verified and await repository.by_verified_email(session, email) is None:
        user.email, user.email_verified = email, True
