"""What identity's routers need, besides the caller. All coroutines: FastAPI runs plain functions in a thread."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from pydantic import SecretStr

from services.identity.projects_client import Projects
from services.identity.sessions.service import SignedIn
from services.identity.settings import IdentitySettings
from services.identity.sign_in.service import Providers
from services.identity.tokens.issuing import TokenIssuer
from services.identity.tokens.signing_keys import KeyRing
from shared.auth import PrincipalKind, TokenVerifier
from shared.current_principal import CurrentPrincipal
from shared.errors import Forbidden, Unauthenticated
from shared.lifespan_state import resources_of


@dataclass(frozen=True, slots=True)
class Resources:
    """What requests need of the running service. Made in `services.identity.resources`."""

    settings: IdentitySettings
    key_ring: KeyRing
    token_issuer: TokenIssuer
    projects: Projects
    providers: Providers
    # Of tokens that a service shows: its own audience.
    shown_tokens: Mapping[str, TokenVerifier]


async def _settings(request: Request) -> IdentitySettings:
    return resources_of(request, Resources).settings


Settings = Annotated[IdentitySettings, Depends(_settings)]


async def _key_ring(request: Request) -> KeyRing:
    return resources_of(request, Resources).key_ring


async def _token_issuer(request: Request) -> TokenIssuer:
    return resources_of(request, Resources).token_issuer


async def _projects(request: Request) -> Projects:
    return resources_of(request, Resources).projects


async def _providers(request: Request) -> Providers:
    return resources_of(request, Resources).providers


async def _calling_service(request: Request, settings: Settings) -> str:
    """The service whose name and secret are sent as HTTP Basic credentials (RFC 7617)."""
    return authenticate_service(request.headers.get("authorization", ""), settings.service_secrets)


def authenticate_service(header: str, secrets: Mapping[str, SecretStr]) -> str:
    """The service that `header` proves to be; compared in constant time, also for an unknown name.

    Raises:
        Unauthenticated: anything else.
    """
    scheme, _, encoded = header.partition(" ")
    try:
        name, _, given = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Unauthenticated from error
    expected = secrets.get(name, SecretStr("")).get_secret_value()
    if not hmac.compare_digest(given.encode(), expected.encode()) or not expected or scheme.lower() != "basic":
        raise Unauthenticated
    return name


async def _tokens_of_caller(request: Request, caller: Annotated[str, Depends(_calling_service)]) -> TokenVerifier:
    """Verifies the tokens that clients' requests to the calling service come with.

    Raises:
        Forbidden: the service passes nothing on.
    """
    verifier = resources_of(request, Resources).shown_tokens.get(caller)
    if verifier is None:
        raise Forbidden("This caller has no permissions for that audience.")
    return verifier


async def _signed_in(principal: CurrentPrincipal) -> SignedIn:
    """A person with a browser session; an API key must not reach what its maker has outside of its tenant."""
    if principal.kind is not PrincipalKind.SESSION or principal.user_id is None or principal.credential_id is None:
        raise Forbidden("Only a signed-in user may do this.")
    return SignedIn(principal.user_id, principal.credential_id, principal.tenant_id)


Keys = Annotated[KeyRing, Depends(_key_ring)]
Issuer = Annotated[TokenIssuer, Depends(_token_issuer)]
CallingService = Annotated[str, Depends(_calling_service)]
TokensOfCaller = Annotated[TokenVerifier, Depends(_tokens_of_caller)]
SignedInUser = Annotated[SignedIn, Depends(_signed_in)]
KnownProjects = Annotated[Projects, Depends(_projects)]
ConfiguredProviders = Annotated[Providers, Depends(_providers)]
