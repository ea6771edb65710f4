"""The identity service: who is who, and the tokens that prove it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from fastapi import FastAPI

from services.identity import housekeeping
from services.identity.api_keys.router import router as api_keys
from services.identity.invitations.router import router as invitations
from services.identity.members.router import internal_router as internal_members
from services.identity.members.router import router as members
from services.identity.projects_client import Projects
from services.identity.sessions.router import router as sessions
from services.identity.settings import IdentitySettings
from services.identity.sign_in.client import ProviderClient
from services.identity.sign_in.router import router as oauth
from services.identity.tenants.router import router as tenants
from services.identity.tokens.issuing import OwnTokenVerifier, TokenIssuer
from services.identity.tokens.router import router as tokens
from services.identity.tokens.signing_keys import KeyRing
from services.identity.users.router import router as users
from shared import service
from shared.background import run_in_background
from shared.handlers import Handler
from shared.service import Runtime

ROUTERS = (oauth, sessions, users, tenants, members, invitations, api_keys, tokens, internal_members)


def create_app() -> FastAPI:
    settings = IdentitySettings.load()

    @asynccontextmanager
    async def resources(app: FastAPI, runtime: Runtime) -> AsyncIterator[Sequence[Handler[Any]]]:
        rotation = timedelta(days=settings.signing_key_days)
        ring = KeyRing(runtime.database, settings.derived_key("signing-keys"), rotate_after=rotation)
        await ring.refresh()
        app.state.key_ring = ring
        app.state.token_issuer = TokenIssuer(ring, settings.token_seconds)
        app.state.projects = Projects(settings.projects_url, app.state.token_issuer, runtime.http)
        runtime.verifier = OwnTokenVerifier(ring, settings.identity_url, runtime.http)
        app.state.providers = {
            provider.name: ProviderClient(
                provider, f"{settings.public_url}/auth/callback/{provider.name}", runtime.http
            )
            for provider in settings.providers
        }
        async with AsyncExitStack() as stack:
            for provider in app.state.providers.values():
                stack.push_async_callback(provider.aclose)
            tidying = partial(housekeeping.run, runtime.database, ring, settings.roles)
            await stack.enter_async_context(run_in_background(tidying, name="housekeeping"))
            yield ()

    return service.create_app(settings, routers=ROUTERS, resources=resources)
