"""Invitations: one token for one person, shown once."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import httpx
import pytest

from infra.local.stack import Stack
from tests.services.identity.admin import as_admin, holding_tenant
from tests.services.identity.callers import Browser, Caller, somebody, unknown_id
from tests.services.identity.conftest import SignIn

Join = Callable[..., Awaitable[Browser]]
WithKey = Callable[..., Awaitable[Caller]]


async def invite(browser: Browser, email: str, role: str = "member") -> dict[str, str]:
    answer = await browser.post("/v1/invitations", json={"email": email, "role": role})
    assert answer.status_code == 201, answer.text
    made: dict[str, str] = answer.json()
    return made


async def address(browser: Browser) -> str:
    return str((await browser.me())["user"]["email"])


async def accept(browser: Browser, token: str) -> tuple[int, str | None]:
    answer = await browser.post(f"/v1/invitations/{token}/accept")
    return answer.status_code, answer.json().get("code")


async def test_an_invited_person_joins(owner: Browser, outsider: Browser) -> None:
    made = await invite(owner, (await address(outsider)).upper(), "admin")
    assert made["email"] == await address(outsider)
    assert made["status"] == "open"
    answer = await outsider.post(f"/v1/invitations/{made['token']}/accept")
    tenant = (await owner.me())["tenant"]
    assert answer.json() == {"id": tenant["id"], "name": tenant["name"], "role": "admin"}
    assert tenant["id"] in [item["id"] for item in (await outsider.me())["tenants"]]
    assert (await owner.get("/v1/invitations")).json()["items"] == []


async def test_the_token_is_shown_once_and_not_stored(owner: Browser, stack: Stack) -> None:
    made = await invite(owner, somebody()["email"])
    listed = (await owner.get("/v1/invitations")).json()["items"]
    assert listed == [{name: value for name, value in made.items() if name != "token"}]
    rows = await as_admin(stack, "SELECT * FROM identity.invitations WHERE id = $1", uuid.UUID(made["id"]))
    assert made["token"] not in str(rows[0])


async def test_a_token_counts_once(owner: Browser, outsider: Browser, stack: Stack) -> None:
    made = await invite(owner, await address(outsider))
    async with holding_tenant(stack, (await owner.me())["tenant"]["id"], until_waiting=3):
        accepting = [asyncio.create_task(accept(outsider, made["token"])) for _ in range(3)]
    answers = await asyncio.gather(*accepting)
    assert sorted(status for status, _ in answers) == [200, 404, 404]


async def test_the_token_is_worth_nothing_to_somebody_else(owner: Browser, outsider: Browser, sign_in: SignIn) -> None:
    email = somebody()["email"]
    made = await invite(owner, email)
    unverified = await sign_in(email=email, email_verified=False)
    for browser in (outsider, unverified):
        assert await accept(browser, made["token"]) == (403, "invitation_for_someone_else")
    assert (await accept(await sign_in(email=email), made["token"]))[0] == 200


async def test_a_revoked_invitation_opens_nothing(owner: Browser, outsider: Browser) -> None:
    made = await invite(owner, await address(outsider))
    assert (await owner.delete(f"/v1/invitations/{made['id']}")).status_code == 204
    assert (await owner.delete(f"/v1/invitations/{made['id']}")).status_code == 404
    assert await accept(outsider, made["token"]) == (404, "not_found")


async def test_an_expired_invitation_opens_nothing(owner: Browser, outsider: Browser, stack: Stack) -> None:
    made = await invite(owner, await address(outsider))
    await as_admin(stack, "UPDATE identity.invitations SET expires_at = now() WHERE id = $1", uuid.UUID(made["id"]))
    assert await accept(outsider, made["token"]) == (404, "not_found")
    assert [item["status"] for item in (await owner.get("/v1/invitations")).json()["items"]] == ["expired"]


async def test_inviting_again_replaces_the_invitation(owner: Browser, outsider: Browser) -> None:
    first = await invite(owner, await address(outsider))
    second = await invite(owner, await address(outsider), "admin")
    assert [item["id"] for item in (await owner.get("/v1/invitations")).json()["items"]] == [second["id"]]
    assert await accept(outsider, first["token"]) == (404, "not_found")
    assert (await accept(outsider, second["token"]))[0] == 200


async def test_a_member_cannot_join_twice(owner: Browser, join: Join) -> None:
    member = await join(owner, "member")
    made = await invite(owner, await address(member), "admin")
    assert await accept(member, made["token"]) == (409, "already_member")
    assert (await member.me())["tenant"]["role"] == "member"


async def test_nobody_joins_a_deleted_tenant(owner: Browser, outsider: Browser) -> None:
    made = await invite(owner, await address(outsider))
    await owner.delete(f"/v1/tenants/{(await owner.me())['tenant']['id']}")
    assert await accept(outsider, made["token"]) == (404, "not_found")


async def test_an_unknown_token_opens_nothing(owner: Browser) -> None:
    assert await accept(owner, "A" * 43) == (404, "not_found")
    assert (await accept(owner, "short"))[0] == 422


async def test_only_owners_invite_owners(owner: Browser, join: Join) -> None:
    admin = await join(owner, "admin")
    body = {"email": somebody()["email"], "role": "owner"}
    answer = await admin.post("/v1/invitations", json=body)
    assert (answer.status_code, answer.json()["code"]) == (403, "owners_only")
    assert (await owner.post("/v1/invitations", json=body)).status_code == 201


async def test_another_tenants_invitations_are_not_there(owner: Browser, outsider: Browser) -> None:
    made = await invite(owner, somebody()["email"])
    assert (await outsider.get("/v1/invitations")).json()["items"] == []
    for target in (made["id"], unknown_id()):
        assert (await outsider.delete(f"/v1/invitations/{target}")).status_code == 404
    assert len((await owner.get("/v1/invitations")).json()["items"]) == 1


async def test_a_plain_member_invites_nobody(owner: Browser, join: Join) -> None:
    member = await join(owner, "member")
    assert (await member.get("/v1/invitations")).status_code == 403
    assert (await member.post("/v1/invitations", json={"email": "a@example.test"})).status_code == 403
    assert (await member.delete(f"/v1/invitations/{unknown_id()}")).status_code == 403


async def test_a_key_without_the_scope_invites_nobody(owner: Browser, with_key: WithKey) -> None:
    key = await with_key(owner, ["search"])
    assert (await key.get("/v1/invitations")).status_code == 403
    assert (await key.post("/v1/invitations", json={"email": "a@example.test"})).status_code == 403


async def test_anonymous_callers_are_refused(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/invitations")).status_code == 401
    assert (await client.post("/v1/invitations", json={"email": "a@example.test"})).status_code == 401
    assert (await client.delete(f"/v1/invitations/{unknown_id()}")).status_code == 401
    assert (await client.post(f"/v1/invitations/{'a' * 43}/accept")).status_code == 401


async def test_invitations_come_in_pages(owner: Browser) -> None:
    for _ in range(2):
        await invite(owner, somebody()["email"])
    first = (await owner.get("/v1/invitations", params={"limit": 1})).json()
    second = (await owner.get("/v1/invitations", params={"limit": 1, "cursor": first["next_cursor"]})).json()
    assert first["items"][0]["id"] != second["items"][0]["id"]
    assert second["next_cursor"] is None


@pytest.mark.parametrize("body", [{}, {"email": "nobody"}, {"email": "a b@c"}, {"email": "a@b", "role": "king"}])
async def test_a_malformed_invitation_is_refused(owner: Browser, body: dict[str, str]) -> None:
    assert (await owner.post("/v1/invitations", json=body)).status_code == 422
