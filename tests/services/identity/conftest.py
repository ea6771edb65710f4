import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import httpx
import pytest

from services.identity.main import create_app
from shared.tenancy import Database
from tests.services.identity.callers import PUBLIC_URL, Browser, Caller, Gateway, somebody
from tests.services.identity.projects import ProjectsDouble
from tests.services.identity.provider import CLIENT_ID, CLIENT_SECRET, StrictProvider
from tests.support.serving import StartedApp, in_process

Environment = dict[str, str]
GATEWAY_SECRET = "the gateway's own secret"
SERVICE_SECRETS = {
    "gateway": GATEWAY_SECRET,
    "indexing": "the indexing service's secret",
    "notifier": "the notifier service's secret",
    "projects": "the projects service's secret",
    "operator": "the secret of the operators",
}


@pytest.fixture(scope="session")
async def running_provider() -> AsyncIterator[StrictProvider]:
    async with StrictProvider.serving(f"{PUBLIC_URL}/auth/callback/strict") as provider:
        yield provider


@pytest.fixture
def provider(running_provider: StrictProvider) -> StrictProvider:
    """The sign-in provider, honest again."""
    running_provider.reset()
    return running_provider


@pytest.fixture(scope="session")
async def projects() -> AsyncIterator[ProjectsDouble]:
    async with ProjectsDouble.serving() as double:
        yield double


@pytest.fixture(scope="session")
async def environment(
    service_environment: Callable[[str], Awaitable[Environment]],
    running_provider: StrictProvider,
    projects: ProjectsDouble,
) -> Environment:
    variables = await service_environment("identity")
    strict = {"name": "strict", "issuer": running_provider.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    variables["QUARRY_IDENTITY_PROVIDERS"] = json.dumps([{**strict, "display_name": "Strict"}])
    variables["QUARRY_IDENTITY_SERVICE_SECRETS"] = json.dumps(SERVICE_SECRETS)
    variables["QUARRY_IDENTITY_PUBLIC_URL"] = PUBLIC_URL
    variables["QUARRY_IDENTITY_PROJECTS_URL"] = projects.url
    variables["QUARRY_IDENTITY_MAX_SESSIONS_PER_USER"] = "3"
    return variables


@pytest.fixture(scope="package")
async def app(environment: Environment) -> AsyncIterator[StartedApp]:
    """The service as it is deployed, called in process."""
    async with in_process(create_app, environment) as (running, _client):
        yield running


@pytest.fixture(scope="package")
def database(app: StartedApp) -> Database:
    return app.database


def client_of(app: StartedApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url=PUBLIC_URL,
        headers={"User-Agent": "a browser"},
    )


@pytest.fixture
async def client(app: StartedApp) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without any credential."""
    async with client_of(app) as anonymous:
        yield anonymous


@pytest.fixture
def gateway(client: httpx.AsyncClient) -> Gateway:
    return Gateway(client, GATEWAY_SECRET)


@pytest.fixture(scope="session")
async def outside() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
async def new_browser(
    app: StartedApp, gateway: Gateway, outside: httpx.AsyncClient
) -> AsyncIterator[Callable[[], Awaitable[Browser]]]:
    async with AsyncExitStack() as stack:

        async def make() -> Browser:
            return Browser(gateway, await stack.enter_async_context(client_of(app)), outside)

        yield make


SignIn = Callable[..., Awaitable[Browser]]


@pytest.fixture
def sign_in(new_browser: Callable[[], Awaitable[Browser]], provider: StrictProvider) -> SignIn:
    """A browser in which a person, by default a new one, has signed in."""

    async def signed_in(**claims: object) -> Browser:
        browser = await new_browser()
        await browser.sign_in(provider, **somebody(**claims))
        return browser

    return signed_in


@pytest.fixture
async def owner(sign_in: SignIn) -> Browser:
    """Owner of a tenant of the test's own."""
    return await sign_in()


@pytest.fixture
async def outsider(sign_in: SignIn) -> Browser:
    """Owner of another tenant."""
    return await sign_in()


@pytest.fixture
def join(sign_in: SignIn) -> Callable[..., Awaitable[Browser]]:
    """Another person who has joined the tenant of a browser, and made it the active one."""

    async def joined(inviter: Browser, role: str) -> Browser:
        browser = await sign_in()
        email = (await browser.me())["user"]["email"]
        made = (await inviter.post("/v1/invitations", json={"email": email, "role": role})).json()
        tenant = (await browser.post(f"/v1/invitations/{made['token']}/accept")).json()
        assert (await browser.post(f"/v1/tenants/{tenant['id']}/activate")).status_code == 200
        return browser

    return joined


@pytest.fixture
def with_key(gateway: Gateway) -> Callable[..., Awaitable[Caller]]:
    """A caller with a new API key that a browser has made."""

    async def made(browser: Browser, scopes: list[str], **more: object) -> Caller:
        answer = await browser.post("/v1/api-keys", json={"name": "a key", "scopes": scopes, **more})
        assert answer.status_code == 201, answer.text
        return Caller(gateway, "api_key", answer.json()["key"])

    return made


async def as_projects(client: httpx.AsyncClient, tenant_id: str) -> dict[str, str]:
    """Headers with which the projects service asks identity about a tenant."""
    answer = await client.post(
        "/internal/service-token",
        json={"audience": "identity", "tenant_id": tenant_id},
        auth=httpx.BasicAuth("projects", SERVICE_SECRETS["projects"]),
    )
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}
