"""Sign-in with an OpenID Connect provider, from the first redirect to a session.

Guarantees: a callback counts once, only in the browser that began the sign-in (its `__Host-` cookie), only within
`login_seconds`, and only with the state, nonce and PKCE verifier of that sign-in, which leave the server only as the
protocol needs. The browser is redirected only to a path of this site.

The steps of a callback are separate transactions, in an order in which a crash costs the user at most one more sign-in:
the login state is used up, the provider is asked, the user is found or made, its first tenant is made, the session
begins.
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.credentials import hashed, new_secret
from services.identity.invitations import repository as invitations_of
from services.identity.sessions import repository as sessions_of
from services.identity.sessions import service as sessions
from services.identity.sessions.service import OpenedSession
from services.identity.settings import IdentitySettings
from services.identity.sign_in import repository
from services.identity.sign_in.client import ProviderClient
from services.identity.sign_in.errors import (
    LoginStateInvalid,
    ProviderRefused,
    ReturnToInvalid,
    SignInFailed,
    UnknownProvider,
)
from services.identity.sign_in.models import LoginState
from services.identity.tenants import repository as tenants_of
from services.identity.tenants import service as tenants
from services.identity.users import repository as users_of
from services.identity.users import service as users
from services.identity.users.models import User
from services.identity.users.service import ExternalIdentity
from shared.errors import QuotaExceeded, RateLimited
from shared.telemetry import get_logger
from shared.transactions import Transactions

Providers = Mapping[str, ProviderClient]
_log = get_logger(__name__)

# A path on this site: printable ASCII, one slash in front (two name another host), and no backslash, which browsers
# read as a slash. They drop tabs and newlines, so those must not hide a second slash either.
_OWN_PATH: Final = re.compile(r"/(?:[!-.0-\[\]-~][!-\[\]-~]*)?")
_LONGEST_PATH: Final = 2048
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class StartedLogin:
    """Where the browser goes next, and the secret its cookie keeps meanwhile."""

    location: str
    browser: str


@dataclass(frozen=True, slots=True)
class Callback:
    """What the browser brought back (RFC 6749, section 4.1.2, and `iss` of RFC 9207)."""

    state: str | None
    code: str | None
    error: str | None
    issuer: str | None


@dataclass(frozen=True, slots=True)
class CompletedLogin:
    session: OpenedSession
    return_to: str


async def begin(
    transactions: Transactions,
    providers: Providers,
    *,
    provider: str,
    return_to: str,
    browser: str | None,
    settings: IdentitySettings,
) -> StartedLogin:
    """Begin a sign-in. A browser that already has the login cookie keeps its value: two tabs may sign in at once.

    Raises:
        UnknownProvider, ReturnToInvalid, ProviderUnavailable
    """
    client = _client(providers, provider)
    if len(return_to) > _LONGEST_PATH or not _OWN_PATH.fullmatch(return_to):
        raise ReturnToInvalid
    if browser is None or not _SECRET.fullmatch(browser):
        browser = new_secret()
    state, nonce, code_verifier = new_secret(), new_secret(), new_secret()
    location = await client.authorization_url(state=state, nonce=nonce, code_verifier=code_verifier)
    async with transactions.system() as session:
        await repository.add(
            session,
            LoginState(
                state_hash=hashed(state),
                browser_hash=hashed(browser),
                provider=provider,
                nonce=nonce,
                code_verifier=code_verifier,
                return_to=return_to,
                expires_at=datetime.now(UTC) + timedelta(seconds=settings.login_seconds),
            ),
        )
    return StartedLogin(location, browser)


async def complete(
    transactions: Transactions,
    providers: Providers,
    *,
    provider: str,
    callback: Callback,
    browser: str | None,
    former_session: str | None,
    user_agent: str,
    settings: IdentitySettings,
) -> CompletedLogin:
    """Finish a sign-in with a new session.

    Raises:
        UnknownProvider, SignInFailed, ProviderUnavailable
    """
    client = _client(providers, provider)
    try:
        login = await _take_login(transactions, provider, callback.state, browser)
        identity = await _identify(client, callback, login)
    except SignInFailed as error:
        _log.info("sign_in_failed", provider=provider, code=error.code, reason=error.reason)
        raise
    user_id = await _user(transactions, identity)
    opened = await _open_session(
        transactions, user_id, former_session=former_session, user_agent=user_agent, settings=settings
    )
    _log.info("signed_in", provider=provider, user_id=str(user_id), session_id=str(opened.session_id))
    return CompletedLogin(opened, login.return_to)


async def _take_login(transactions: Transactions, provider: str, state: str | None, browser: str | None) -> LoginState:
    if not state or not browser:
        raise LoginStateInvalid("state or login cookie is missing")
    async with transactions.system() as session:
        login = await repository.take(
            session, state_hash=hashed(state), browser_hash=hashed(browser), provider=provider
        )
    if login is None:
        raise LoginStateInvalid("no such sign-in began in this browser, or it has expired or was completed")
    return login


async def _identify(client: ProviderClient, callback: Callback, login: LoginState) -> ExternalIdentity:
    await client.check_issuer(callback.issuer)
    if callback.error is not None or not callback.code:
        raise ProviderRefused(f"the provider answered {(callback.error or 'without a code')[:100]}")
    return await client.identity(code=callback.code, code_verifier=login.code_verifier, nonce=login.nonce)


async def _user(transactions: Transactions, identity: ExternalIdentity) -> uuid.UUID:
    async with transactions.system() as session:
        return (await users.find_or_create(session, identity)).id


async def _open_session(
    transactions: Transactions,
    user_id: uuid.UUID,
    *,
    former_session: str | None,
    user_agent: str,
    settings: IdentitySettings,
) -> OpenedSession:
    """Sign-ins of one user wait for each other: the first one may have to make a tenant."""
    async with transactions.system() as session:
        user = await users_of.locked(session, user_id)
        tenant_id = await _tenant_for(transactions, session, user, settings)
        if former_session:
            await sessions.replace(session, former_session, settings=settings)
        return await sessions.open_session(
            session, user_id=user_id, tenant_id=tenant_id, user_agent=user_agent, settings=settings
        )


async def _tenant_for(
    transactions: Transactions, session: AsyncSession, user: User, settings: IdentitySettings
) -> uuid.UUID | None:
    """The tenant to begin in: where the user worked last, else the oldest. A user without a tenant gets one of their
    own, unless invited: then they begin in none, and accept. So does a user who has made too many tenants."""
    mine = [tenant.id for tenant in await tenants_of.of_user(session, user.id)]
    if mine:
        last = await sessions_of.last_tenant(session, user.id)
        return last if last in mine else mine[0]
    if user.email_verified and user.email and await invitations_of.is_invited(session, user.email):
        return None
    try:
        await tenants.check_quota(session, user.id, settings=settings)
    except (QuotaExceeded, RateLimited):
        return None
    tenant_id = await tenants_of.new_id(session)
    await tenants.create_as(transactions, tenant_id, owner_id=user.id, name=user.name, within=session)
    return tenant_id


def _client(providers: Providers, name: str) -> ProviderClient:
    client = providers.get(name)
    if client is None:
        raise UnknownProvider
    return client
