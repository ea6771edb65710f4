"""Sign-in against the provider of the development stack, without a browser: its form is posted by hand."""

import json
import os
from collections.abc import AsyncIterator

import httpx
import pytest

from infra.local.environment import DEV_USER
from infra.local.ports import allocate
from infra.local.servers import OidcServer
from services.identity.main import create_app
from services.identity.sessions.cookies import SESSION
from tests.services.identity.callers import PUBLIC_URL, Browser, Gateway
from tests.services.identity.conftest import GATEWAY_SECRET, Environment, client_of
from tests.support.serving import StartedApp, in_process


@pytest.fixture(scope="module")
async def development(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OidcServer]:
    ports = allocate(tmp_path_factory.mktemp("ports") / "ports.json", {"oidc": None})
    server = OidcServer(ports["oidc"], [DEV_USER], environment=dict(os.environ))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="module")
async def app(environment: Environment, development: OidcServer) -> AsyncIterator[StartedApp]:
    provider = {"name": "dev", "issuer": development.issuer, "client_id": "quarry", "client_secret": "anything"}
    variables = {**environment, "QUARRY_IDENTITY_PROVIDERS": json.dumps([provider])}
    async with in_process(create_app, variables) as (running, _client):
        yield running


@pytest.fixture
async def browser(app: StartedApp, outside: httpx.AsyncClient) -> AsyncIterator[Browser]:
    async with client_of(app) as jar:
        yield Browser(Gateway(jar, GATEWAY_SECRET), jar, outside)


async def approve(browser: Browser, location: str, **form: str) -> str:
    """Post the provider's form; where it sends the browser back to."""
    answer = await browser.outside.post(location, data=form)
    assert answer.status_code == 302, answer.text
    return answer.headers["location"].removeprefix(PUBLIC_URL)


async def test_the_development_user_signs_in(browser: Browser) -> None:
    location = await browser.start("dev", return_to="/projects")
    answer = await browser.jar.get(await approve(browser, location, sub="dev-user"))
    assert (answer.status_code, answer.headers["location"]) == (303, "/projects")
    browser.credential = browser.jar.cookies[SESSION]
    assert (await browser.me())["user"]["email"] == "dev@example.test"


async def test_a_wrong_state_gives_no_session(browser: Browser) -> None:
    callback = await approve(browser, await browser.start("dev"), sub="dev-user")
    answer = await browser.jar.get(callback.replace("state=", "state=x"))
    assert (answer.status_code, answer.json()["code"]) == (400, "login_state_invalid")
    assert SESSION not in browser.jar.cookies


async def test_a_wrong_nonce_gives_no_session(browser: Browser) -> None:
    location = await browser.start("dev")
    answer = await browser.jar.get(await approve(browser, location.replace("nonce=", "nonce=x"), sub="dev-user"))
    assert (answer.status_code, answer.json()["code"]) == (400, "id_token_invalid")


async def test_a_challenge_of_another_verifier_gives_no_session(browser: Browser) -> None:
    location = await browser.start("dev")
    answer = await browser.jar.get(
        await approve(browser, location.replace("code_challenge=", "code_challenge=x"), sub="dev-user")
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "provider_refused")


async def test_a_denied_sign_in_gives_no_session(browser: Browser) -> None:
    location = await browser.start("dev")
    callback = await approve(browser, location, action="deny")
    assert "error=access_denied" in callback
    answer = await browser.jar.get(callback)
    assert answer.status_code == 400
    assert SESSION not in browser.jar.cookies
