"""Signing in: what works, and every way in which it must not. A refusal changes one thing of a sign-in that works."""

import asyncio
import base64
import hmac
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson
import pytest
from joserfc.jwk import RSAKey

from infra.local.stack import Stack
from services.identity.credentials import hashed
from services.identity.sessions.cookies import CSRF, LOGIN, SESSION
from tests.services.identity.admin import as_admin
from tests.services.identity.callers import PUBLIC_URL, Browser, somebody
from tests.services.identity.conftest import SignIn
from tests.services.identity.provider import CLIENT_ID, StrictProvider

NewBrowser = Callable[[], Awaitable[Browser]]


@pytest.fixture
async def browser(new_browser: NewBrowser, provider: StrictProvider) -> Browser:
    """A browser in front of the provider, which will sign in somebody new."""
    provider.person = somebody()
    return await new_browser()


async def callback_of(browser: Browser) -> str:
    """Where the provider sends the browser back to, in a sign-in that has gone well so far."""
    return await browser.ask(await browser.start())


async def refused(browser: Browser, callback: str) -> tuple[int, str]:
    answer = await browser.jar.get(callback)
    assert SESSION not in browser.jar.cookies
    assert "set-cookie" not in answer.headers
    return answer.status_code, answer.json()["code"]


def parameters(location: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


# --- what works ------------------------------------------------------------------------------------------------------


async def test_a_sign_in_gives_a_session_that_works(browser: Browser, provider: StrictProvider) -> None:
    person = somebody()
    answer = await browser.sign_in(provider, **person)
    assert answer.headers["location"] == "/"
    assert answer.headers["cache-control"] == "no-store"
    me = await browser.me()
    assert me["user"] == {
        "id": me["user"]["id"],
        "name": person["name"],
        "email": person["email"],
        "email_verified": True,
    }
    assert me["tenant"] == {"id": me["tenants"][0]["id"], "name": person["name"], "role": "owner"}
    assert "tenant:admin" in me["scopes"]
    assert me["credential"]["kind"] == "session"


async def test_providers_are_listed(client: httpx.AsyncClient) -> None:
    listed = {"name": "strict", "display_name": "Strict", "login_path": "/auth/login/strict"}
    assert (await client.get("/auth/providers")).json() == {"items": [listed]}


async def test_the_provider_is_asked_with_pkce_state_nonce_and_the_exact_redirect_uri(
    browser: Browser, provider: StrictProvider
) -> None:
    first, second = parameters(await browser.start()), parameters(await browser.start())
    assert first["response_type"] == "code"
    assert first["client_id"] == CLIENT_ID
    assert first["scope"] == "openid email profile"
    assert first["redirect_uri"] == f"{PUBLIC_URL}/auth/callback/strict"
    assert first["code_challenge_method"] == "S256"
    for secret in ("state", "nonce", "code_challenge"):
        assert len(first[secret]) == 43
        assert first[secret] != second[secret]


async def test_the_code_is_redeemed_with_the_verifier_of_the_challenge(
    browser: Browser, provider: StrictProvider
) -> None:
    """The provider refuses anything else, so a sign-in that works proves it; this says what was sent."""
    await browser.sign_in(provider, **somebody())
    sent = provider.redemptions[-1]
    assert len(sent["code_verifier"]) == 43
    assert sent["redirect_uri"] == f"{PUBLIC_URL}/auth/callback/strict"
    assert "code_verifier" not in provider.authorizations[-1]


async def test_cookies_are_bound_to_this_host_and_out_of_reach(browser: Browser, provider: StrictProvider) -> None:
    provider.person = somebody()
    started = await browser.jar.get("/auth/login/strict")
    answer = await browser.jar.get(await browser.ask(started.headers["location"]))
    cookies = [*started.headers.get_list("set-cookie"), *answer.headers.get_list("set-cookie")]
    by_name = {cookie.partition("=")[0]: cookie.lower() for cookie in cookies}
    assert set(by_name) == {LOGIN, SESSION, CSRF}
    for name, cookie in by_name.items():
        assert "secure" in cookie
        assert "path=/;" in cookie + ";"
        assert "samesite=lax" in cookie
        assert "domain" not in cookie
        assert ("httponly" in cookie) == (name != CSRF)
    assert LOGIN not in browser.jar.cookies


async def test_the_csrf_cookie_is_what_the_gateway_is_told(owner: Browser) -> None:
    exchanged = await owner.exchanged()
    assert exchanged["csrf_token"] == owner.csrf
    assert owner.credential not in owner.csrf


async def test_a_person_who_returns_is_the_same_user_with_the_same_tenant(
    sign_in: SignIn,
) -> None:
    person = somebody()
    first, second = await sign_in(**person), await sign_in(**person)
    assert first.credential != second.credential
    assert (await first.me())["user"] == (await second.me())["user"]
    assert (await first.me())["tenants"] == (await second.me())["tenants"]


async def test_two_first_sign_ins_at_once_make_one_user_and_one_tenant(
    new_browser: NewBrowser, provider: StrictProvider
) -> None:
    person = somebody()
    browsers = [await new_browser() for _ in range(3)]
    await asyncio.gather(*(browser.sign_in(provider, **person) for browser in browsers))
    seen = [await browser.me() for browser in browsers]
    assert len({me["user"]["id"] for me in seen}) == 1
    assert [len(me["tenants"]) for me in seen] == [1, 1, 1]


async def test_many_people_sign_in_for_the_first_time_at_once(
    new_browser: NewBrowser, provider: StrictProvider
) -> None:
    """More than there are connections; each needs two kinds of them."""
    browsers, callbacks = [await new_browser() for _ in range(24)], []
    for browser in browsers:
        provider.person = somebody()
        callbacks.append(await callback_of(browser))
    answers = await asyncio.gather(
        *(browser.jar.get(callback) for browser, callback in zip(browsers, callbacks, strict=True))
    )
    assert {answer.status_code for answer in answers} == {303}


async def test_a_person_begins_where_it_worked_last(sign_in: SignIn) -> None:
    person = somebody()
    browser = await sign_in(**person)
    second = (await browser.post("/v1/tenants", json={"name": "second"})).json()["id"]
    await browser.post(f"/v1/tenants/{second}/activate")
    assert (await (await sign_in(**person)).me())["tenant"]["id"] == second
    assert (await browser.delete(f"/v1/tenants/{second}")).status_code == 204
    assert (await (await sign_in(**person)).me())["tenant"]["name"] == person["name"]


async def test_an_invited_person_gets_no_tenant_of_its_own(owner: Browser, sign_in: SignIn) -> None:
    person = somebody()
    made = (await owner.post("/v1/invitations", json={"email": person["email"]})).json()
    browser = await sign_in(**person)
    me = await browser.me()
    assert (me["tenant"], me["tenants"]) == (None, [])
    tenant = (await browser.post(f"/v1/invitations/{made['token']}/accept")).json()["id"]
    assert (await browser.post(f"/v1/tenants/{tenant}/activate")).status_code == 200
    assert (await browser.me())["tenants"] == [(await browser.me())["tenant"]]


async def test_letters_that_only_unicode_calls_equal_are_different_people(sign_in: SignIn) -> None:
    name = somebody()["sub"]
    first = await sign_in(email=f"k{name}@example.test")
    second = await sign_in(email=f"\u212a{name}@example.test")
    assert (await first.me())["user"]["id"] != (await second.me())["user"]["id"]


async def test_two_tabs_sign_in_at_once(browser: Browser, provider: StrictProvider) -> None:
    first, second = await callback_of(browser), await callback_of(browser)
    assert (await browser.jar.get(first)).status_code == 303
    # The first tab is done and has removed the cookie; the second has to start again, and can.
    assert (await refused_code(browser, second)) == "login_state_invalid"
    assert (await browser.jar.get(await callback_of(browser))).status_code == 303


async def refused_code(browser: Browser, callback: str) -> str:
    code: str = (await browser.jar.get(callback)).json()["code"]
    return code


async def test_a_verified_address_links_accounts(sign_in: SignIn) -> None:
    email = somebody()["email"]
    first = await sign_in(email=email)
    second = await sign_in(email=email.upper())
    assert (await first.me())["user"]["id"] == (await second.me())["user"]["id"]


@pytest.mark.parametrize("verified", [False, None, "false", 1.5])
async def test_an_unverified_address_links_nothing(sign_in: SignIn, verified: Any) -> None:
    victim = await sign_in()
    email = (await victim.me())["user"]["email"]
    attacker = await sign_in(email=email, email_verified=verified)
    me = await attacker.me()
    assert me["user"]["id"] != (await victim.me())["user"]["id"]
    assert me["user"]["email_verified"] is False


async def test_an_address_verified_later_becomes_the_users(sign_in: SignIn) -> None:
    person = somebody(email_verified=False)
    assert (await (await sign_in(**person)).me())["user"]["email_verified"] is False
    again = await sign_in(**{**person, "email_verified": True})
    assert (await again.me())["user"]["email_verified"] is True
    taken = somebody(email=person["email"], email_verified=False)
    await sign_in(**taken)
    still = await sign_in(**{**taken, "email_verified": True})
    assert (await still.me())["user"]["email_verified"] is False


async def test_a_person_without_name_or_address_can_sign_in(sign_in: SignIn) -> None:
    browser = await sign_in(email=None, name=None)
    me = await browser.me()
    assert me["user"]["email"] is None
    assert me["tenant"]["name"] == me["user"]["name"] == "New user"


async def test_control_characters_in_what_a_provider_says_are_left_out(sign_in: SignIn) -> None:
    browser = await sign_in(email="a\0b@example.test", name="Ada\0 Love\nlace")
    user = (await browser.me())["user"]
    assert (user["email"], user["email_verified"], user["name"]) == (None, False, "Ada Lovelace")


async def test_claims_missing_from_the_token_come_from_userinfo(browser: Browser, provider: StrictProvider) -> None:
    person = somebody()
    provider.userinfo = person
    await browser.sign_in(provider, sub=person["sub"])
    assert (await browser.me())["user"]["email"] == person["email"]


async def test_signing_in_again_ends_the_browsers_former_session(browser: Browser, provider: StrictProvider) -> None:
    person = somebody()
    await browser.sign_in(provider, **person)
    former = browser.credential
    await browser.sign_in(provider, **person)
    assert browser.credential != former
    assert await browser.counts()
    assert (await browser.gateway.exchange("session", former)).status_code == 401


async def test_a_session_secret_chosen_by_somebody_else_is_not_adopted(
    browser: Browser, provider: StrictProvider
) -> None:
    chosen = "A" * 43
    browser.jar.cookies.set(SESSION, chosen, domain="quarry.test")
    await browser.sign_in(provider, **somebody())
    assert browser.credential != chosen
    assert (await browser.gateway.exchange("session", chosen)).status_code == 401


@pytest.mark.parametrize("issuer_given", [True, False])
async def test_the_issuer_of_the_answer_is_accepted_when_it_is_the_providers(
    browser: Browser, provider: StrictProvider, issuer_given: bool
) -> None:
    provider.answers_with_iss = provider.url if issuer_given else None
    assert (await browser.jar.get(await callback_of(browser))).status_code == 303


# --- what must not ---------------------------------------------------------------------------------------------------


async def test_a_wrong_state_is_refused(browser: Browser) -> None:
    callback = await callback_of(browser)
    state = parameters(callback)["state"]
    assert await refused(browser, callback.replace(state, "A" * 43)) == (400, "login_state_invalid")


async def test_a_missing_state_is_refused(browser: Browser) -> None:
    code = parameters(await callback_of(browser))["code"]
    assert await refused(browser, f"/auth/callback/strict?code={code}") == (400, "login_state_invalid")


async def test_a_callback_counts_once(browser: Browser) -> None:
    callback = await callback_of(browser)
    cookie = browser.jar.cookies[LOGIN]
    assert (await browser.jar.get(callback)).status_code == 303
    browser.jar.cookies.clear()
    browser.jar.cookies.set(LOGIN, cookie, domain="quarry.test")
    assert await refused(browser, callback) == (400, "login_state_invalid")


async def test_a_callback_that_failed_cannot_be_tried_again(browser: Browser, provider: StrictProvider) -> None:
    callback = await callback_of(browser)
    provider.lies = {"nonce": "another"}
    assert await refused(browser, callback) == (400, "id_token_invalid")
    provider.lies = {}
    assert await refused(browser, callback) == (400, "login_state_invalid")


@pytest.mark.parametrize("cookie", [None, "A" * 43])
async def test_a_callback_in_another_browser_is_refused(
    browser: Browser, new_browser: NewBrowser, cookie: str | None
) -> None:
    callback = await callback_of(browser)
    other = await new_browser()
    if cookie:
        other.jar.cookies.set(LOGIN, cookie, domain="quarry.test")
    assert await refused(other, callback) == (400, "login_state_invalid")
    assert (await browser.jar.get(callback)).status_code == 303


async def test_a_sign_in_that_took_too_long_is_refused(browser: Browser, stack: Stack) -> None:
    callback = await callback_of(browser)
    await as_admin(
        stack,
        "UPDATE identity.login_states SET expires_at = now() WHERE state_hash = $1",
        hashed(parameters(callback)["state"]),
    )
    assert await refused(browser, callback) == (400, "login_state_invalid")


async def test_another_nonce_stored_is_refused(browser: Browser, stack: Stack) -> None:
    callback = await callback_of(browser)
    await as_admin(
        stack,
        "UPDATE identity.login_states SET nonce = 'another' WHERE state_hash = $1",
        hashed(parameters(callback)["state"]),
    )
    assert await refused(browser, callback) == (400, "id_token_invalid")


@pytest.mark.parametrize("verifier", ["", "A" * 43])
async def test_a_missing_or_wrong_verifier_is_refused_by_the_provider(
    browser: Browser, provider: StrictProvider, stack: Stack, verifier: str
) -> None:
    callback = await callback_of(browser)
    await as_admin(
        stack,
        "UPDATE identity.login_states SET code_verifier = $2 WHERE state_hash = $1",
        hashed(parameters(callback)["state"]),
        verifier,
    )
    assert await refused(browser, callback) == (400, "provider_refused")
    assert provider.redemptions[-1].get("code_verifier", "") == verifier


async def test_another_code_is_refused_by_the_provider(browser: Browser) -> None:
    callback = await callback_of(browser)
    code = parameters(callback)["code"]
    assert await refused(browser, callback.replace(code, "0" * 32)) == (400, "provider_refused")


async def test_an_answer_without_a_code_is_refused(browser: Browser) -> None:
    state = parameters(await callback_of(browser))["state"]
    callback = f"/auth/callback/strict?state={state}&error=access_denied"
    assert await refused(browser, callback) == (400, "provider_refused")


async def test_the_answer_of_another_issuer_is_refused(browser: Browser, provider: StrictProvider) -> None:
    provider.answers_with_iss = "https://issuer.elsewhere.test"
    assert await refused(browser, await callback_of(browser)) == (400, "provider_refused")


@pytest.mark.parametrize(
    "lie",
    [
        {"iss": "https://issuer.elsewhere.test"},
        {"iss": None},
        {"aud": "another client"},
        {"aud": None},
        {"aud": [CLIENT_ID, "another client"]},
        {"azp": "another client"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": 1},
        {"exp": None},
        {"iat": None},
        {"iat": 10**10},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 256},
    ],
    ids=str,
)
async def test_an_id_token_for_somebody_or_something_else_is_refused(
    browser: Browser, provider: StrictProvider, lie: dict[str, Any]
) -> None:
    callback = await callback_of(browser)
    provider.lies = lie
    assert await refused(browser, callback) == (400, "id_token_invalid")


async def test_several_audiences_are_accepted_when_we_are_the_authorized_party(
    browser: Browser, provider: StrictProvider
) -> None:
    callback = await callback_of(browser)
    provider.lies = {"aud": [CLIENT_ID, "another client"], "azp": CLIENT_ID}
    assert (await browser.jar.get(callback)).status_code == 303


async def test_an_id_token_signed_by_another_key_is_refused(browser: Browser, provider: StrictProvider) -> None:
    callback = await callback_of(browser)
    provider.signing_key = RSAKey.generate_key(2048)
    assert await refused(browser, callback) == (400, "id_token_invalid")


async def test_an_id_token_of_an_unknown_key_is_refused(browser: Browser, provider: StrictProvider) -> None:
    callback = await callback_of(browser)
    provider.header = {"kid": "unheard of"}
    assert await refused(browser, callback) == (400, "id_token_invalid")


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
async def test_an_unsigned_token_and_one_signed_with_the_public_key_are_refused(
    browser: Browser, provider: StrictProvider, algorithm: str
) -> None:
    def encoded(part: bytes) -> str:
        return base64.urlsafe_b64encode(part).decode().rstrip("=")

    def forge(claims: dict[str, Any]) -> str:
        header = {"alg": algorithm, "kid": provider.key.kid}
        signed = f"{encoded(orjson.dumps(header))}.{encoded(orjson.dumps(claims))}"
        mac = hmac.digest(provider.key.as_pem(private=False), signed.encode(), "sha256")
        return f"{signed}.{encoded(mac) if algorithm != 'none' else ''}"

    callback = await callback_of(browser)
    provider.metadata = {"id_token_signing_alg_values_supported": ["RS256", "HS256", "none"]}
    provider.forge = forge
    assert await refused(browser, callback) == (400, "id_token_invalid")


@pytest.mark.parametrize("token", ["", "a.b", "a.b.c", "é.é.é", "x" * 20_000])
async def test_what_is_no_token_is_refused(browser: Browser, provider: StrictProvider, token: str) -> None:
    callback = await callback_of(browser)
    provider.forge = lambda _claims: token
    assert await refused(browser, callback) == (400, "id_token_invalid")


async def test_userinfo_about_somebody_else_is_refused(browser: Browser, provider: StrictProvider) -> None:
    provider.person = {"sub": somebody()["sub"]}
    provider.userinfo = somebody()
    assert await refused(browser, await callback_of(browser)) == (400, "id_token_invalid")


async def test_a_provider_that_is_down_is_said_to_be(browser: Browser, provider: StrictProvider) -> None:
    callback = await callback_of(browser)
    provider.down = True
    answer = await browser.jar.get(callback)
    assert answer.status_code == 503
    assert answer.json()["code"] == "provider_unavailable"
    assert answer.headers["retry-after"]


@pytest.mark.parametrize("path", ["/auth/login/nobody", "/auth/callback/nobody?state=a&code=b"])
async def test_an_unknown_provider_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    "path", ["/", "/projects", "/projects/1?tab=members#top", "/%2F%2Fevil.test", "/a//b", "/[x]", "/~user"]
)
async def test_the_browser_returns_to_a_path_of_this_site(browser: Browser, path: str) -> None:
    answer = await browser.jar.get(await browser.ask(await browser.start(return_to=path)))
    assert answer.status_code == 303
    assert urlsplit(answer.headers["location"]).netloc == ""
    assert answer.headers["location"].startswith(path.partition("[")[0])


@pytest.mark.parametrize(
    "target",
    [
        "",
        "//evil.test",
        "///evil.test",
        "/\\evil.test",
        "\\\\evil.test",
        "/\t/evil.test",
        "/\n/evil.test",
        " //evil.test",
        "https://evil.test",
        "https:evil.test",
        "javascript:alert(1)",
        "evil.test",
        "/path\\..\\x",
        "/ü",
        "/\r\nSet-Cookie: a=b",
        "/" + "a" * 2048,
    ],
)
async def test_the_browser_is_sent_nowhere_else(client: httpx.AsyncClient, target: str) -> None:
    answer = await client.get("/auth/login/strict", params={"return_to": target})
    assert answer.status_code == 400
    assert answer.json()["code"] == "return_to_invalid"
    assert "set-cookie" not in answer.headers


async def test_a_malformed_login_cookie_is_replaced(browser: Browser) -> None:
    browser.jar.cookies.set(LOGIN, "chosen by somebody", domain="quarry.test")
    answer = await browser.jar.get("/auth/login/strict")
    assert "chosen" not in answer.headers["set-cookie"]


async def test_what_is_stored_of_a_sign_in_under_way_opens_nothing(browser: Browser, stack: Stack) -> None:
    state = parameters(await browser.start())["state"]
    rows = await as_admin(stack, "SELECT * FROM identity.login_states WHERE state_hash = $1", hashed(state))
    assert len(rows) == 1
    assert state not in str(rows[0])
    assert browser.jar.cookies[LOGIN] not in str(rows[0])
