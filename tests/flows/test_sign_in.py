"""Signing in without a browser, through the gateway, against the development provider: its form is posted by hand.

`uv run test --system URL` runs it on a system that runs already, if that offers the provider (compose: profile `dev`).
"""

from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest

from tests.support.polling import eventually
from tests.support.remote_system import SYSTEM_URL, Product, is_given

SESSION = "__Host-quarry_session"
CSRF = "__Host-quarry_csrf"

pytestmark = pytest.mark.system


class Browser:
    """Keeps cookies as a browser does on loopback, which counts as secure even without TLS."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.cookies: dict[str, str] = {}

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {**options.pop("headers", {}), **({"Cookie": cookie} if cookie else {})}
        answer = await self._client.request(method, url, headers=headers, **options)
        for line in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                assert morsel["secure"] and morsel["path"] == "/", line
                self.cookies[name] = morsel.value
        return answer

    async def begin(self) -> str:
        """Where the gateway sends the browser to sign in."""
        answer = await self.request("GET", "/auth/login/dev", params={"return_to": "/projects"})
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    async def approve(self, location: str, user: str = "dev-user") -> str:
        """Sign in at the provider; where it sends the browser back to."""
        async with httpx.AsyncClient() as elsewhere:
            answer = await elsewhere.post(location, data={"sub": user})
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    async def sign_in(self) -> None:
        answer = await self.request("GET", await self.approve(await self.begin()))
        assert (answer.status_code, answer.headers["location"]) == (303, "/projects"), answer.text


@pytest.fixture
async def browser(product: Product) -> AsyncIterator[Browser]:
    browser = Browser(await product.client())
    if is_given() and (await browser.request("GET", "/auth/login/dev")).status_code != 303:
        pytest.skip(f"{SYSTEM_URL}: that system offers no development sign-in")
    yield Browser(await product.client())


async def test_a_sign_in_gives_a_session_that_works(browser: Browser) -> None:
    assert (await browser.request("GET", "/v1/me")).status_code == 401
    await browser.sign_in()
    me = (await browser.request("GET", "/v1/me")).json()
    assert (me["user"]["email"], me["credential"]["kind"]) == ("dev@example.test", "session")
    assert me["tenant"]["role"] == "owner"


async def test_an_unsafe_request_of_a_session_needs_its_token(browser: Browser) -> None:
    await browser.sign_in()
    body = {"name": "From a browser"}
    assert (await browser.request("POST", "/v1/projects", json=body)).status_code == 403
    wrong = {"X-CSRF-Token": "guessed"}
    assert (await browser.request("POST", "/v1/projects", json=body, headers=wrong)).status_code == 403
    right = {"X-CSRF-Token": browser.cookies[CSRF]}
    elsewhere = {**right, "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert (await browser.request("POST", "/v1/projects", json=body, headers=elsewhere)).status_code == 403
    assert (await browser.request("POST", "/v1/projects", json=body, headers=right)).status_code == 201


async def test_a_session_ends_with_signing_out(browser: Browser) -> None:
    await browser.sign_in()
    kept = dict(browser.cookies)
    answer = await browser.request("POST", "/auth/logout", headers={"X-CSRF-Token": browser.cookies[CSRF]})
    assert answer.status_code in (200, 204), answer.text
    browser.cookies = kept

    async def ended() -> bool:
        return (await browser.request("GET", "/v1/me")).status_code == 401

    await eventually(ended, within=5)


@pytest.mark.parametrize("parameter", ["state", "nonce", "code_challenge"])
async def test_a_sign_in_somebody_tampered_with_gives_no_session(browser: Browser, parameter: str) -> None:
    """Another state at the callback, a nonce or a PKCE challenge that is not the one this sign-in began with."""
    location = await browser.begin()
    if parameter == "state":
        callback = (await browser.approve(location)).replace("state=", "state=x")
    else:
        url = httpx.URL(location)
        changed = "A" * len(url.params[parameter])
        callback = await browser.approve(str(url.copy_set_param(parameter, changed)))
    answer = await browser.request("GET", callback)
    assert answer.status_code in (400, 401, 403, 502), answer.text
    assert SESSION not in browser.cookies
    assert (await browser.request("GET", "/v1/me")).status_code == 401


async def test_a_callback_in_another_browser_gives_no_session(browser: Browser, product: Product) -> None:
    callback = await browser.approve(await browser.begin())
    other = Browser(await product.client())
    assert (await other.request("GET", callback)).status_code == 400
    assert SESSION not in other.cookies
