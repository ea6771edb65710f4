"""Signing in without a browser, through the gateway, against the development provider: its form is posted by hand.

`uv run test --system URL` runs it on a system that runs already, if that offers the provider (compose: profile `dev`).
"""

import uuid
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.browser import CSRF, SESSION, Browser
from tests.support.remote_system import SYSTEM_URL, Product, is_given

pytestmark = pytest.mark.system


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


async def test_whoever_is_invited_joins(browser: Browser, product: Product) -> None:
    """By a name nobody has used before: the provider vouches for an address of that name."""
    await browser.sign_in()
    name = f"guest-{uuid.uuid4().hex[:8]}"
    csrf = {"X-CSRF-Token": browser.cookies[CSRF]}
    body = {"email": f"{name}@example.test", "role": "member"}
    invited = await browser.request("POST", "/v1/invitations", json=body, headers=csrf)
    assert invited.status_code == 201, invited.text
    path = f"/v1/invitations/{invited.json()['token']}/accept"
    stranger, guest = Browser(await product.client()), Browser(await product.client())
    for each, user, status in ((stranger, f"other-{name}", 403), (guest, name, 200)):
        await each.sign_in(user)
        answer = await each.request("POST", path, headers={"X-CSRF-Token": each.cookies[CSRF]})
        assert answer.status_code == status, answer.text
    tenants = (await guest.request("GET", "/v1/me")).json()["tenants"]
    assert answer.json() in tenants


async def test_a_session_ends_with_signing_out(browser: Browser) -> None:
    await browser.sign_in()
    kept = dict(browser.cookies)
    answer = await browser.request("POST", "/auth/logout", headers={"X-CSRF-Token": browser.cookies[CSRF]})
    assert answer.status_code in (200, 204), answer.text
    browser.cookies = kept
    assert (await browser.request("GET", "/v1/me")).status_code == 401


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
