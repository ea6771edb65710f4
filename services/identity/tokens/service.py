"""Credentials in, internal tokens out."""

import uuid

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.api_keys import service as api_keys
from services.identity.credentials import csrf_token
from services.identity.sessions import service as sessions
from services.identity.settings import IdentitySettings
from services.identity.tokens.issuing import TokenIssuer
from services.identity.tokens.schemas import Audience, Credential, ExchangedTokens, ServiceToken
from shared.auth import ALL_SCOPES, AUDIENCES, OPERATOR, Principal, PrincipalKind
from shared.errors import Forbidden, Unauthenticated


async def exchange(
    session: AsyncSession, caller: str, *, credential: Credential, settings: IdentitySettings, issuer: TokenIssuer
) -> ExchangedTokens:
    """Tokens for the holder of a client's credential, for each service.

    Raises:
        Forbidden: the caller is not the gateway.
        Unauthenticated: the credential does not count.
    """
    if caller != "gateway":
        raise Forbidden("Only the gateway exchanges credentials.")
    if credential.credential_type == "session":
        principal = await sessions.principal_of(session, credential.credential, settings=settings)
    elif credential.credential_type == "api_key":
        principal = await api_keys.principal_of(session, credential.credential)
    else:
        # An access token of an authorization server; this installation has none yet, so none can be valid.
        raise Unauthenticated
    return ExchangedTokens(
        tokens=issuer.tokens(principal, AUDIENCES),
        expires_in=float(issuer.lifetime_seconds),
        kind=principal.kind,
        user_id=principal.user_id,
        tenant_id=principal.tenant_id,
        credential_id=principal.credential_id,
        csrf_token=_csrf_token(principal, settings),
        scopes=sorted(principal.limit),
        project_id=principal.project_id,
    )


def _csrf_token(principal: Principal, settings: IdentitySettings) -> str | None:
    if principal.kind is not PrincipalKind.SESSION or principal.credential_id is None:
        return None
    return csrf_token(settings.derived_key("csrf"), principal.credential_id)


def service_token(caller: str, *, audience: Audience, tenant_id: uuid.UUID, issuer: TokenIssuer) -> ServiceToken:
    """A token with which `caller` speaks to `audience` about one tenant.

    Raises:
        Forbidden: the caller is an operator, who speaks for no tenant.
    """
    if caller == OPERATOR:
        raise Forbidden("An operator's tokens are about no tenant.")
    principal = Principal(
        kind=PrincipalKind.SERVICE,
        subject=f"service:{caller}",
        user_id=None,
        tenant_id=tenant_id,
        tenant_role="admin",
        limit=ALL_SCOPES,
    )
    return _token(principal, audience, issuer)


def operator_token(caller: str, *, audience: Audience, issuer: TokenIssuer) -> ServiceToken:
    """A token that opens what only operators may see and do in `audience`, and no tenant's data besides.

    Raises:
        Forbidden: the caller did not prove to be an operator.
    """
    if caller != OPERATOR:
        raise Forbidden("Only operators get this token.")
    principal = Principal(
        kind=PrincipalKind.SERVICE, subject=OPERATOR, user_id=None, tenant_id=None, tenant_role=None, limit=frozenset()
    )
    return _token(principal, audience, issuer)


def _token(principal: Principal, audience: Audience, issuer: TokenIssuer) -> ServiceToken:
    token = issuer.tokens(principal, (audience,))[audience]
    return ServiceToken(token=token, expires_in=float(issuer.lifetime_seconds))
