"""Sessions: where a person is signed in, and how that ends."""

import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import pytest

from infra.local.stack import Stack
from services.identity.sessions import repository
from services.identity.sessions.cookies import CSRF, SESSION
from shared.events.envelope import NO_TENANT
from shared.tenancy import Database
from tests.services.identity.admin import as_admin
from tests.services.identity.callers import PUBLIC_URL, Browser, Caller, somebody, unknown_id
from tests.services.identity.conftest import SignIn
from tests.services.identity.events import published
from tests.services.identity.provider import StrictProvider

WithKey = Callable[..., Awaitable[Caller]]
REVOKED = "identity.session.revoked.v1"


async def age(stack: Stack, browser: Browser, column: str, by: timedelta) -> None:
    statements = {
        "last_seen_at": "UPDATE identity.sessions SET last_seen_at = last_seen_at - $2::interval WHERE id = $1",
        "expires_at": "UPDATE identity.sessions SET expires_at = expires_at - $2::interval WHERE id = $1",
    }
    await as_admin(stack, statements[column], await session_id(browser), by)


async def session_id(browser: Browser) -> uuid.UUID:
    return uuid.UUID((await browser.exchanged())["credential_id"])


async def test_a_person_sees_where_it_is_signed_in(sign_in: SignIn) -> None:
    person = somebody()
    first, second = await sign_in(**person), await sign_in(**person)
    items = (await second.get("/v1/sessions")).json()["items"]
    assert [item["current"] for item in items] == [False, True]
    assert items[0]["id"] == str(await session_id(first))
    assert items[0]["user_agent"] == "a browser"
    assert set(items[0]) == {"id", "user_agent", "created_at", "last_seen_at", "expires_at", "current"}


async def test_sessions_come_in_pages(sign_in: SignIn) -> None:
    person = somebody()
    await sign_in(**person)
    browser = await sign_in(**person)
    first = (await browser.get("/v1/sessions", params={"limit": 1})).json()
    second = (await browser.get("/v1/sessions", params={"limit": 1, "cursor": first["next_cursor"]})).json()
    assert first["items"][0]["id"] != second["items"][0]["id"]
    assert second["next_cursor"] is None


async def test_a_person_signs_out_elsewhere(sign_in: SignIn, stack: Stack) -> None:
    person = somebody()
    lost, kept = await sign_in(**person), await sign_in(**person)
    gone = await session_id(lost)
    assert (await kept.delete(f"/v1/sessions/{gone}")).status_code == 204
    assert not await lost.counts()
    assert await kept.counts()
    assert (await kept.delete(f"/v1/sessions/{gone}")).status_code == 404
    me = await kept.me()
    [event] = await published(stack, REVOKED, str(gone))
    assert event.tenant_id == me["tenant"]["id"]
    assert event.data == {"session_id": str(gone), "user_id": me["user"]["id"]}
    assert event.sequence == 2
    assert event.correlation_id


async def test_a_session_without_a_tenant_is_announced_too(sign_in: SignIn, stack: Stack) -> None:
    """Somebody may hold a token of it: it accepts invitations."""
    person = somebody()
    browser, other = await sign_in(**person), await sign_in(**person)
    gone = await session_id(browser)
    await as_admin(stack, "UPDATE identity.sessions SET active_tenant_id = NULL WHERE id = $1", gone)
    assert (await other.delete(f"/v1/sessions/{gone}")).status_code == 204
    [event] = await published(stack, REVOKED, str(gone))
    assert event.tenant_id == str(NO_TENANT)


async def test_nobody_ends_the_session_of_somebody_else(owner: Browser, outsider: Browser) -> None:
    foreign = await outsider.delete(f"/v1/sessions/{await session_id(owner)}")
    missing = await outsider.delete(f"/v1/sessions/{unknown_id()}")
    assert foreign.status_code == missing.status_code == 404
    assert await owner.counts()


async def test_anonymous_callers_are_refused(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/sessions")).status_code == 401
    assert (await client.delete(f"/v1/sessions/{unknown_id()}")).status_code == 401
    assert (await client.post("/auth/logout")).status_code == 401


async def test_the_oldest_session_ends_beyond_the_limit(sign_in: SignIn, stack: Stack) -> None:
    """The limit of the service under test is three."""
    person = somebody()
    browsers = [await sign_in(**person) for _ in range(3)]
    await age(stack, browsers[1], "last_seen_at", timedelta(seconds=30))
    oldest = await session_id(browsers[1])
    newest = await sign_in(**person)
    assert [await browser.counts() for browser in (*browsers, newest)] == [True, False, True, True]
    assert len(await published(stack, REVOKED, str(oldest))) == 1


async def test_an_idle_session_ends(owner: Browser, stack: Stack) -> None:
    await age(stack, owner, "last_seen_at", timedelta(days=7))
    assert not await owner.counts()


async def test_a_session_ends_however_busy_it_is(owner: Browser, stack: Stack) -> None:
    await age(stack, owner, "expires_at", timedelta(days=30))
    assert not await owner.counts()


async def test_activity_keeps_a_session_and_is_noted_once_a_minute(owner: Browser, stack: Stack) -> None:
    async def last_seen() -> str:
        return str((await owner.get("/v1/sessions")).json()["items"][0]["last_seen_at"])

    first = await last_seen()
    assert await last_seen() == first
    await age(stack, owner, "last_seen_at", timedelta(days=6))
    assert await last_seen() > first


async def test_signing_out_ends_the_session_and_clears_the_cookies(owner: Browser, stack: Stack) -> None:
    ended = await session_id(owner)
    answer = await owner.jar.post("/auth/logout", headers={"X-CSRF-Token": owner.csrf})
    assert answer.status_code == 204
    assert SESSION not in owner.jar.cookies
    assert CSRF not in owner.jar.cookies
    assert not await owner.counts()
    assert len(await published(stack, REVOKED, str(ended))) == 1


@pytest.mark.parametrize("token", [None, "", "wrong", "é".encode()])
async def test_signing_out_needs_the_csrf_token(owner: Browser, token: str | bytes | None) -> None:
    headers = {} if token is None else {"X-CSRF-Token": token}
    answer = await owner.jar.post("/auth/logout", headers=headers)  # type: ignore[arg-type]  # bytes are what httpx sends
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed")
    assert await owner.counts()


async def test_the_csrf_token_of_another_session_is_worth_nothing(owner: Browser, outsider: Browser) -> None:
    answer = await owner.jar.post("/auth/logout", headers={"X-CSRF-Token": outsider.csrf})
    assert answer.status_code == 403


async def test_signing_out_of_a_session_that_has_ended_clears_the_cookies(owner: Browser, stack: Stack) -> None:
    await age(stack, owner, "last_seen_at", timedelta(days=7))
    assert (await owner.jar.post("/auth/logout")).status_code == 204
    assert SESSION not in owner.jar.cookies


async def test_the_cookies_value_is_not_stored(owner: Browser, stack: Stack) -> None:
    rows = await as_admin(stack, "SELECT * FROM identity.sessions WHERE id = $1", await session_id(owner))
    assert owner.credential not in str(rows[0])


async def test_sessions_that_ended_long_ago_are_forgotten(
    sign_in: SignIn, stack: Stack, database: Database, provider: StrictProvider
) -> None:
    person = somebody()
    expired, revoked, kept = await sign_in(**person), await sign_in(**person), await sign_in(**person)
    ids = [await session_id(browser) for browser in (expired, revoked, kept)]
    await as_admin(stack, "UPDATE identity.sessions SET expires_at = now() - interval '8 days' WHERE id = $1", ids[0])
    await as_admin(stack, "UPDATE identity.sessions SET revoked_at = now() - interval '8 days' WHERE id = $1", ids[1])
    async with database.system() as session:
        await repository.forget_ended(session, keep=timedelta(days=7))
    rows = await as_admin(stack, "SELECT id FROM identity.sessions WHERE id = ANY($1)", ids)
    assert [row["id"] for row in rows] == [ids[2]]
    assert PUBLIC_URL.startswith("https://")
