"""Internal endpoints; the gateway routes no client to them."""

from typing import Annotated

from fastapi import APIRouter

from services.identity.dependencies import CallingService, Issuer, Keys, Settings, TokensOfCaller
from services.identity.tokens import service
from services.identity.tokens.schemas import (
    AcceptedCredential,
    Authority,
    Credential,
    DelegatedToken,
    DelegatedTokenRequest,
    ExchangedTokens,
    OperatorTokenRequest,
    PublicKeys,
    ServiceToken,
    ServiceTokenRequest,
)
from shared.auth import Principal
from shared.current_principal import operation
from shared.service_permissions import Operation
from shared.session_dependencies import SystemSession

router = APIRouter(prefix="/internal", include_in_schema=False)
AuthorityReader = Annotated[Principal, operation(Operation.READ_AUTHORITY)]


@router.post("/token")
async def exchange(
    caller: CallingService, body: Credential, session: SystemSession, settings: Settings, issuer: Issuer
) -> ExchangedTokens:
    """Exchange a client's credential for internal tokens."""
    return await service.exchange(session, caller, credential=body, settings=settings, issuer=issuer)


@router.post("/authority")
async def authority(
    caller: AuthorityReader, body: AcceptedCredential, session: SystemSession, settings: Settings
) -> Authority:
    """What a credential allows now, for a service that accepted it some time ago."""
    return await service.authority(session, caller, kind=body.kind, credential_id=body.credential_id, settings=settings)


@router.post("/service-token")
async def service_token(caller: CallingService, body: ServiceTokenRequest, issuer: Issuer) -> ServiceToken:
    """A token with which a service calls another, about one tenant or about the installation."""
    return service.service_token(caller, audience=body.audience, tenant_id=body.tenant_id, issuer=issuer)


@router.post("/delegated-token")
async def delegated_token(
    caller: CallingService,
    body: DelegatedTokenRequest,
    session: SystemSession,
    verifier: TokensOfCaller,
    settings: Settings,
    issuer: Issuer,
) -> DelegatedToken:
    """A token with which a service calls another for the client it is serving, with that client's rights."""
    return await service.delegated_token(
        session, caller, token=body.token, audience=body.audience, verifier=verifier, settings=settings, issuer=issuer
    )


@router.post("/operator-token")
async def operator_token(caller: CallingService, body: OperatorTokenRequest, issuer: Issuer) -> ServiceToken:
    """A token for an operator; it gives no access to any tenant's data."""
    return service.operator_token(caller, audience=body.audience, issuer=issuer)


@router.get("/jwks")
async def jwks(keys: Keys) -> PublicKeys:
    """The keys internal tokens are verified with."""
    return PublicKeys(keys=keys.published())
