"""`/auth`: sign-in with an OpenID Connect provider, for browsers."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.responses import RedirectResponse

from services.identity.credentials import csrf_token
from services.identity.dependencies import ConfiguredProviders, Settings
from services.identity.sessions.cookies import LoginCookie, SessionCookie, clear_login, set_login, set_session
from services.identity.sign_in import service
from services.identity.sign_in.schemas import ProviderOut, ProvidersOut, callback_parameters
from services.identity.sign_in.service import Callback
from shared.route_introspection import AnyQuery
from shared.session_dependencies import AnyTransactions

router = APIRouter(prefix="/auth", tags=["Sign-in"])
# Neither the code in the address nor the cookies may stay in a cache or reach another site.
_PRIVATE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


UserAgent = Annotated[str, Header(include_in_schema=False)]


@router.get("/providers")
async def list_providers(providers: ConfiguredProviders) -> ProvidersOut:
    """The sign-in providers."""
    return ProvidersOut(
        items=[
            ProviderOut(name=client.name, display_name=client.display_name, login_path=f"/auth/login/{client.name}")
            for client in providers.values()
        ]
    )


@router.get("/login/{provider}", status_code=303, response_class=RedirectResponse)
async def login(
    provider: str,
    transactions: AnyTransactions,
    providers: ConfiguredProviders,
    settings: Settings,
    return_to: str = "/",
    browser: LoginCookie = None,
) -> RedirectResponse:
    """Redirect the browser to the provider; after the sign-in it is redirected to `return_to`."""
    started = await service.begin(
        transactions, providers, provider=provider, return_to=return_to, browser=browser, settings=settings
    )
    response = RedirectResponse(started.location, 303, _PRIVATE)
    set_login(response, started.browser, settings.login_seconds)
    return response


@router.get("/callback/{provider}", status_code=303, response_class=RedirectResponse, dependencies=[AnyQuery])
async def callback(
    provider: str,
    transactions: AnyTransactions,
    providers: ConfiguredProviders,
    settings: Settings,
    returned: Annotated[Callback, Depends(callback_parameters)],
    browser: LoginCookie = None,
    former_session: SessionCookie = None,
    user_agent: UserAgent = "",
) -> RedirectResponse:
    """The provider redirects the browser here after the sign-in. Sets the session cookie."""
    done = await service.complete(
        transactions,
        providers,
        provider=provider,
        callback=returned,
        browser=browser,
        former_session=former_session,
        user_agent=user_agent,
        settings=settings,
    )
    response = RedirectResponse(done.return_to, 303, _PRIVATE)
    opened = done.session
    token = csrf_token(settings.derived_key("csrf"), opened.session_id)
    set_session(response, secret=opened.secret, csrf_token=token, expires_at=opened.expires_at)
    clear_login(response)
    return response
