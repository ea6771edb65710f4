"""Internal endpoints; the gateway routes no client to them."""

from fastapi import APIRouter

from services.identity.http import CallingService, Issuer, Keys, Settings
from services.identity.tokens import service
from services.identity.tokens.schemas import (
    Credential,
    ExchangedTokens,
    OperatorTokenRequest,
    PublicKeys,
    ServiceToken,
    ServiceTokenRequest,
)
from shared.sessions import SystemSession

router = APIRouter(prefix="/internal", include_in_schema=False)


@router.post("/token")
async def exchange(
    caller: CallingService, body: Credential, session: SystemSession, settings: Settings, issuer: Issuer
) -> ExchangedTokens:
    """Exchange a client's credential for internal tokens."""
    return await service.exchange(session, caller, credential=body, settings=settings, issuer=issuer)


@router.post("/service-token")
async def service_token(caller: CallingService, body: ServiceTokenRequest, issuer: Issuer) -> ServiceToken:
    """A token for a service that speaks for one tenant."""
    return service.service_token(caller, audience=body.audience, tenant_id=body.tenant_id, issuer=issuer)


@router.post("/operator-token")
async def operator_token(caller: CallingService, body: OperatorTokenRequest, issuer: Issuer) -> ServiceToken:
    """A token for an operator, about no tenant."""
    return service.operator_token(caller, audience=body.audience, issuer=issuer)


@router.get("/jwks")
async def jwks(keys: Keys) -> PublicKeys:
    """The keys internal tokens are verified with."""
    return PublicKeys(keys=keys.published())
