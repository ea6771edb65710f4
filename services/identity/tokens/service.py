"""Credentials in, internal tokens out."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.api_keys import service as api_keys
from services.identity.credentials import csrf_token
from services.identity.sessions import service as sessions
from services.identity.settings import IdentitySettings
from services.identity.tokens.issuing import TokenIssuer
from services.identity.tokens.schemas import Authority, Credential, DelegatedToken, ExchangedTokens, ServiceToken
from shared.auth import AUDIENCES, Principal, PrincipalKind, TokenVerifier
from shared.delegation import delegated_scopes
from shared.errors import Forbidden, Unauthenticated
from shared.service_permissions import OPERATOR, Audience, operations_of

# A credential with less than this left has expired: its token could not be verified before it does.
SHORTEST_SECONDS: Final = 0.05
# A delegated token is for the request at hand.
DELEGATED_FOR: Final = timedelta(seconds=10)


async def exchange(
    session: AsyncSession, caller: str, *, credential: Credential, settings: IdentitySettings, issuer: TokenIssuer
) -> ExchangedTokens:
    """Tokens for the holder of a client's credential, for each service.

    Raises:
        Forbidden: the caller is not the gateway.
        Unauthenticated: the credential is not valid.
    """
    if caller != "gateway":
        raise Forbidden("Only the gateway can exchange credentials.")
    if credential.credential_type == "session":
        principal = await sessions.principal_of(session, credential.credential, settings=settings)
    elif credential.credential_type == "api_key":
        principal = await api_keys.principal_of(session, credential.credential)
    else:
        # An access token of an authorization server; this installation has none yet, so none can be valid.
        raise Unauthenticated
    lifetime = issuer.lifetime(principal)
    if lifetime < SHORTEST_SECONDS:
        raise Unauthenticated
    return ExchangedTokens(
        tokens=issuer.tokens(principal, AUDIENCES),
        expires_in=lifetime,
        credential_expires_in=_seconds_left(principal),
        kind=principal.kind,
        user_id=principal.user_id,
        tenant_id=principal.tenant_id,
        credential_id=principal.credential_id,
        csrf_token=_csrf_token(principal, settings),
        scopes=sorted(principal.limit),
        project_id=principal.project_id,
    )


def _seconds_left(principal: Principal) -> float | None:
    if principal.credential_until is None:
        return None
    return (principal.credential_until - datetime.now(UTC)).total_seconds()


def _csrf_token(principal: Principal, settings: IdentitySettings) -> str | None:
    if principal.kind is not PrincipalKind.SESSION or principal.credential_id is None:
        return None
    return csrf_token(settings.derived_key("csrf"), principal.credential_id)


async def authority(
    session: AsyncSession,
    caller: Principal,
    *,
    kind: PrincipalKind,
    credential_id: uuid.UUID,
    settings: IdentitySettings,
) -> Authority:
    """What the holder of a credential may do now in the tenant the service asks about. That it is no longer valid is a
    result, not an error: errors are about the service that asks."""
    try:
        principal = await _principal_now(session, kind, credential_id, settings)
    except Unauthenticated:
        return Authority(counts=False, claims=None)
    return Authority(counts=True, claims=principal.claims() if principal.tenant_id == caller.tenant_id else None)


async def _principal_now(
    session: AsyncSession, kind: PrincipalKind, credential_id: uuid.UUID, settings: IdentitySettings
) -> Principal:
    if kind is PrincipalKind.SESSION:
        return await sessions.principal_now(session, credential_id, settings=settings)
    return await api_keys.principal_now(session, credential_id)


async def delegated_token(
    session: AsyncSession,
    caller: str,
    *,
    token: str,
    audience: Audience,
    verifier: TokenVerifier,
    settings: IdentitySettings,
    issuer: TokenIssuer,
) -> DelegatedToken:
    """A token for `audience` of the client that `caller` is serving: as its credential stands now, in the tenant of the
    token shown, and with no scope that the table does not pass on.

    Args:
        token: for `caller`; the client's request came with it.
        verifier: of tokens for `caller`.

    Raises:
        Forbidden: the caller may pass nothing on there, or the token shown is no client's.
    """
    scopes = delegated_scopes(caller, audience)
    if not scopes:
        raise Forbidden("This caller has no permissions for that audience.")
    try:
        shown = await verifier.verify(token)
        if shown.kind is PrincipalKind.SERVICE or shown.credential_id is None:
            raise Forbidden("Only what a client may do can be passed on.")
        principal = await _principal_now(session, shown.kind, shown.credential_id, settings)
    except Unauthenticated:
        return DelegatedToken(token=None)
    if principal.tenant_id != shown.tenant_id:
        return DelegatedToken(token=None)
    until = datetime.now(UTC) + DELEGATED_FOR
    if principal.credential_until is not None:
        until = min(until, principal.credential_until)
    passed_on = replace(principal, limit=principal.limit & scopes, credential_until=until)
    return DelegatedToken(token=issuer.tokens(passed_on, (audience,))[audience])


def service_token(caller: str, *, audience: Audience, tenant_id: uuid.UUID | None, issuer: TokenIssuer) -> ServiceToken:
    """A token with which `caller` calls `audience` about one tenant, or about the installation.

    Raises:
        Forbidden: the caller may call nothing there, or is an operator, who has a route of its own.
    """
    if caller == OPERATOR:
        raise Forbidden("An operator cannot get a service token; use /internal/operator-token.")
    return _token(f"service:{caller}", caller, audience, tenant_id, issuer)


def operator_token(caller: str, *, audience: Audience, issuer: TokenIssuer) -> ServiceToken:
    """A token for what only operators may see and do in `audience`, and for no tenant's data.

    Raises:
        Forbidden: the caller did not prove to be an operator.
    """
    if caller != OPERATOR:
        raise Forbidden("Only an operator can get this token.")
    return _token(OPERATOR, OPERATOR, audience, None, issuer)


def _token(
    subject: str, caller: str, audience: Audience, tenant_id: uuid.UUID | None, issuer: TokenIssuer
) -> ServiceToken:
    operations = operations_of(caller, audience, installation_wide=tenant_id is None)
    if not operations:
        raise Forbidden("This caller has no permissions for that audience.")
    principal = Principal(
        kind=PrincipalKind.SERVICE,
        subject=subject,
        user_id=None,
        tenant_id=tenant_id,
        tenant_role=None,
        limit=frozenset(),
        operations=operations,
    )
    token = issuer.tokens(principal, (audience,))[audience]
    return ServiceToken(token=token, expires_in=issuer.lifetime(principal))
