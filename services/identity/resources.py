"""The resources of the running identity service: keys, tokens, providers and housekeeping."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial

from services.identity import housekeeping
from services.identity.dependencies import Resources
from services.identity.projects_client import Projects
from services.identity.settings import IdentitySettings
from services.identity.sign_in.client import ProviderClient
from services.identity.tokens.issuing import OwnTokenVerifier, TokenIssuer
from services.identity.tokens.signing_keys import KeyRing
from shared.background import run_in_background
from shared.delegation import DELEGATED
from shared.service import Runtime, Started


@asynccontextmanager
async def resources(settings: IdentitySettings, runtime: Runtime) -> AsyncIterator[Started[Resources]]:
    rotation = timedelta(days=settings.signing_key_days)
    ring = KeyRing(runtime.database, settings.derived_key("signing-keys"), rotate_after=rotation)
    await ring.refresh()
    issuer = TokenIssuer(ring, settings.token_seconds)
    runtime.verifier = OwnTokenVerifier(ring, settings.identity_url, runtime.http)
    async with AsyncExitStack() as stack:
        providers = {
            provider.name: ProviderClient(
                provider, f"{settings.public_url}/auth/callback/{provider.name}", runtime.http
            )
            for provider in settings.providers
        }
        for client in providers.values():
            stack.push_async_callback(client.aclose)
        tidying = partial(housekeeping.run, runtime.database, ring, settings.roles)
        await stack.enter_async_context(run_in_background(tidying, name="housekeeping"))
        projects = Projects(settings.projects_url, issuer, runtime.http)
        shown = {
            service: OwnTokenVerifier(ring, settings.identity_url, runtime.http, audience=service)
            for service in DELEGATED
        }
        yield Resources(settings, ring, issuer, projects, providers, shown), ()
