"""Browser sessions: an opaque secret in a cookie, everything else on the server.

Guarantees: a session is valid only until its absolute expiry and while it is not idle too long; signing in always makes
a new one; ending one is announced in the same transaction. Activity is noted at most once a minute, and the gateway
keeps exchanged tokens for less than a minute, so idle expiry is exact to about two.
"""

import hmac
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.credentials import csrf_token, hashed, new_secret
from services.identity.sessions import repository
from services.identity.sessions.errors import CsrfFailed
from services.identity.sessions.models import BrowserSession
from services.identity.sessions.repository import Holder
from services.identity.settings import IdentitySettings
from shared.auth import ALL_SCOPES, Principal, PrincipalKind
from shared.errors import NotFound, Unauthenticated
from shared.events.envelope import NO_TENANT
from shared.events.identity import SessionRevoked
from shared.invalidations.recording import confirm
from shared.outbox import publish

MOST_SEEN_OF_USER_AGENT = 256


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A caller who came with a browser session."""

    user_id: uuid.UUID
    session_id: uuid.UUID
    tenant_id: uuid.UUID | None


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A new session and the secret that only its browser keeps."""

    session_id: uuid.UUID
    secret: str
    expires_at: datetime


async def principal_of(session: AsyncSession, secret: str, *, settings: IdentitySettings) -> Principal:
    """The principal of a session, in its active tenant if the user still belongs to it.

    Raises:
        Unauthenticated: unknown, revoked, expired or idle too long.
    """
    return await _principal(session, await repository.holder(session, hashed(secret), idle=settings.session_idle))


async def principal_now(session: AsyncSession, session_id: uuid.UUID, *, settings: IdentitySettings) -> Principal:
    """The present principal of a session that was accepted before; raises as `principal_of`."""
    return await _principal(session, await repository.holder_by_id(session, session_id, idle=settings.session_idle))


async def _principal(session: AsyncSession, holder: Holder | None) -> Principal:
    if holder is None:
        raise Unauthenticated
    if holder.unseen_lately:
        await repository.mark_seen(session, holder.session_id)
    return Principal(
        kind=PrincipalKind.SESSION,
        subject=str(holder.user_id),
        user_id=holder.user_id,
        tenant_id=holder.tenant_id,
        tenant_role=holder.role,
        limit=ALL_SCOPES,
        credential_id=holder.session_id,
        credential_until=holder.expires_at,
        membership_number=holder.membership_number,
    )


async def open_session(
    session: AsyncSession,
    *,
    user_id: uuid.UUID,
    tenant_id: uuid.UUID | None,
    user_agent: str,
    settings: IdentitySettings,
) -> OpenedSession:
    """A new session of a user, active in `tenant_id`. Beyond the limit, those unused longest end."""
    keep = settings.max_sessions_per_user - 1
    for oldest in await repository.beyond(session, user_id, keep=keep, idle=settings.session_idle):
        end(session, oldest)
    secret = new_secret()
    row = await repository.add(
        session,
        BrowserSession(
            user_id=user_id,
            secret_hash=hashed(secret),
            active_tenant_id=tenant_id,
            user_agent=user_agent[:MOST_SEEN_OF_USER_AGENT],
            expires_at=datetime.now(UTC) + timedelta(seconds=settings.session_absolute_seconds),
        ),
    )
    return OpenedSession(row.id, secret, row.expires_at)


async def replace(session: AsyncSession, secret: str, *, settings: IdentitySettings) -> None:
    """End the session a browser still had when it signed in again, if that one is valid."""
    row = await repository.by_hash(session, hashed(secret), idle=settings.session_idle)
    if row is not None:
        end(session, row)


async def sign_out(session: AsyncSession, *, secret: str | None, csrf_given: str, settings: IdentitySettings) -> None:
    """End the session of a browser. If it has already ended by itself, the browser should forget it all the same.

    Raises:
        Unauthenticated: there is no cookie.
        CsrfFailed: the request does not carry the session's CSRF token.
    """
    if not secret:
        raise Unauthenticated
    row = await repository.by_hash(session, hashed(secret), idle=settings.session_idle)
    if row is None:
        confirm(session)
        return
    expected = csrf_token(settings.derived_key("csrf"), row.id)
    if not hmac.compare_digest(csrf_given.encode(), expected.encode()):
        raise CsrfFailed
    end(session, row)


async def page(
    session: AsyncSession,
    caller: SignedIn,
    *,
    limit: int,
    after: tuple[datetime, uuid.UUID] | None,
    settings: IdentitySettings,
) -> Sequence[BrowserSession]:
    """The caller's own valid sessions."""
    return await repository.page(session, caller.user_id, limit=limit, after=after, idle=settings.session_idle)


async def revoke(session: AsyncSession, caller: SignedIn, *, session_id: uuid.UUID, settings: IdentitySettings) -> None:
    """End one of the caller's own sessions, this one included.

    Raises:
        NotFound: not the caller's, or already ended.
    """
    row = await repository.of_user(session, caller.user_id, session_id, idle=settings.session_idle)
    if row is None:
        raise NotFound
    end(session, row)


async def activate(
    session: AsyncSession, caller: SignedIn, *, tenant_id: uuid.UUID, settings: IdentitySettings
) -> None:
    """Make `tenant_id`, to which the caller belongs, the active tenant of the session the request came with.

    Tokens and streams of the session in the tenant before are announced as revoked; if there was none, so are its
    tokens without a tenant.
    """
    row = await repository.of_user(session, caller.user_id, caller.session_id, idle=settings.session_idle)
    if row is None:
        raise Unauthenticated
    before, row.active_tenant_id = row.active_tenant_id, tenant_id
    _announce(session, row, tenant_id=before or NO_TENANT)


def end(session: AsyncSession, row: BrowserSession) -> None:
    """Revoke and announce it."""
    row.revoked_at = datetime.now(UTC)
    _announce(session, row, tenant_id=row.active_tenant_id or NO_TENANT)


def _announce(session: AsyncSession, row: BrowserSession, *, tenant_id: uuid.UUID) -> None:
    row.revision += 1
    publish(
        session,
        SessionRevoked(session_id=row.id, user_id=row.user_id),
        sequence=row.revision,
        tenant_id=tenant_id,
    )
