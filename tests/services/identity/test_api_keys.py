"""API keys: shown once, limited, and worth as much as their maker is now."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from infra.local.stack import Stack
from tests.services.identity.admin import as_admin
from tests.services.identity.callers import Browser, Caller, Gateway, unknown_id
from tests.services.identity.events import published

WithKey = Callable[..., Awaitable[Caller]]
Join = Callable[..., Awaitable[Browser]]
ALL = {"name": "all", "scopes": ["search", "keys:admin", "members:admin", "projects:read"]}


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


async def test_a_key_is_shown_once_and_kept_as_a_hash(owner: Browser, stack: Stack) -> None:
    made = (await owner.post("/v1/api-keys", json={"name": "ci", "scopes": ["search", "search"]})).json()
    assert made["key"].startswith("qk_")
    assert len(made["key"]) == 46
    assert made["prefix"] == made["key"][:11]
    assert made["scopes"] == ["search"]
    assert made["project_id"] is None
    assert made["expires_at"] is None
    assert made["last_used_at"] is None
    listed = (await owner.get("/v1/api-keys")).json()
    assert listed == {"items": [{name: value for name, value in made.items() if name != "key"}], "next_cursor": None}
    row = (await as_admin(stack, "SELECT * FROM identity.api_keys WHERE id = $1", uuid.UUID(made["id"])))[0]
    assert made["key"][11:] not in str(row)


async def test_a_revoked_key_no_longer_counts_and_is_announced(owner: Browser, with_key: WithKey, stack: Stack) -> None:
    key = await with_key(owner, ["search"])
    key_id = (await key.exchanged())["credential_id"]
    assert (await owner.delete(f"/v1/api-keys/{key_id}")).status_code == 204
    assert not await key.counts()
    assert (await owner.get("/v1/api-keys")).json()["items"] == []
    assert (await owner.delete(f"/v1/api-keys/{key_id}")).status_code == 404
    [event] = await published(stack, "identity.api_key.revoked.v1", key_id)
    assert event.data == {"api_key_id": key_id, "user_id": (await owner.me())["user"]["id"]}
    assert event.sequence == 2


async def test_an_expired_key_no_longer_counts(owner: Browser, with_key: WithKey, stack: Stack) -> None:
    key = await with_key(owner, ["search"], expires_at=in_hours(1))
    key_id = (await key.exchanged())["credential_id"]
    await as_admin(stack, "UPDATE identity.api_keys SET expires_at = now() WHERE id = $1", uuid.UUID(key_id))
    assert not await key.counts()


async def test_the_last_use_is_noted_once_a_minute(owner: Browser, with_key: WithKey, stack: Stack) -> None:
    key = await with_key(owner, ["search"])
    key_id = uuid.UUID((await key.exchanged())["credential_id"])

    async def last_use() -> datetime:
        rows = await as_admin(stack, "SELECT last_used_at FROM identity.api_keys WHERE id = $1", key_id)
        found: datetime = rows[0]["last_used_at"]
        return found

    first = await last_use()
    await key.exchanged()
    assert await last_use() == first
    await as_admin(stack, "UPDATE identity.api_keys SET last_used_at = now() - interval '2 min' WHERE id = $1", key_id)
    await key.exchanged()
    assert await last_use() > first


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"name": "", "scopes": ["search"]},
        {"name": "x" * 101, "scopes": ["search"]},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["everything"]},
        {"name": "x", "scopes": ["search"], "tenant_id": "0"},
        {"name": "x", "scopes": ["search"], "expires_at": "2030-01-01T00:00:00"},
        {"name": "x", "scopes": ["search"], "project_id": "x"},
    ],
)
async def test_a_malformed_key_is_refused(owner: Browser, body: dict[str, object]) -> None:
    answer = await owner.post("/v1/api-keys", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"]


async def test_a_key_that_would_be_expired_is_refused(owner: Browser) -> None:
    answer = await owner.post("/v1/api-keys", json={**ALL, "expires_at": in_hours(-1)})
    assert (answer.status_code, answer.json()["code"]) == (400, "expiry_invalid")


async def test_a_key_cannot_give_more_than_it_has(owner: Browser, with_key: WithKey) -> None:
    maker = await with_key(owner, ["keys:admin", "search"])
    wider = await maker.post("/v1/api-keys", json={"name": "x", "scopes": ["search", "tenant:admin"]})
    assert (wider.status_code, wider.json()["code"]) == (403, "scopes_too_wide")
    assert (await maker.post("/v1/api-keys", json={"name": "x", "scopes": ["search"]})).status_code == 201


async def test_a_key_does_not_outlive_the_key_that_made_it(owner: Browser, with_key: WithKey) -> None:
    maker = await with_key(owner, ["keys:admin", "search"], expires_at=in_hours(1))
    for expiry in (None, in_hours(2)):
        answer = await maker.post("/v1/api-keys", json={"name": "x", "scopes": ["search"], "expires_at": expiry})
        assert (answer.status_code, answer.json()["code"]) == (400, "expiry_invalid")
    answer = await maker.post("/v1/api-keys", json={"name": "x", "scopes": ["search"], "expires_at": in_hours(0.5)})
    assert answer.status_code == 201


async def test_a_key_that_was_revoked_a_moment_ago_makes_none(owner: Browser, with_key: WithKey) -> None:
    maker = await with_key(owner, ["keys:admin", "search"])
    exchanged = await maker.exchanged()
    await owner.delete(f"/v1/api-keys/{exchanged['credential_id']}")
    headers = {"Authorization": f"Bearer {exchanged['tokens']['identity']}"}
    body = {"name": "x", "scopes": ["search"]}
    assert (await owner.gateway.client.post("/v1/api-keys", json=body, headers=headers)).status_code == 401


@pytest.mark.parametrize("limits", [{"scopes": ["search"]}, {"scopes": ["keys:admin"], "project_id": unknown_id()}])
async def test_a_key_without_the_scope_or_tied_to_a_project_manages_no_keys(
    owner: Browser, with_key: WithKey, limits: dict[str, object]
) -> None:
    key = await with_key(owner, **limits)
    assert (await key.get("/v1/api-keys")).status_code == 403
    assert (await key.post("/v1/api-keys", json={"name": "x", "scopes": ["search"]})).status_code == 403
    assert (await key.delete(f"/v1/api-keys/{unknown_id()}")).status_code == 403


async def test_a_plain_member_manages_no_keys(owner: Browser, join: Join) -> None:
    member = await join(owner, "member")
    assert (await member.get("/v1/api-keys")).status_code == 403
    assert (await member.post("/v1/api-keys", json=ALL)).status_code == 403
    assert (await member.delete(f"/v1/api-keys/{unknown_id()}")).status_code == 403


async def test_anonymous_callers_are_refused(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/api-keys")).status_code == 401
    assert (await client.post("/v1/api-keys", json=ALL)).status_code == 401
    assert (await client.delete(f"/v1/api-keys/{unknown_id()}")).status_code == 401


async def test_another_tenant_sees_and_revokes_nothing(owner: Browser, outsider: Browser, with_key: WithKey) -> None:
    key = await with_key(owner, ["search"])
    key_id = (await key.exchanged())["credential_id"]
    assert (await outsider.get("/v1/api-keys")).json()["items"] == []
    foreign = await outsider.delete(f"/v1/api-keys/{key_id}")
    missing = await outsider.delete(f"/v1/api-keys/{unknown_id()}")
    assert foreign.status_code == missing.status_code == 404
    assert await key.counts()


async def test_a_key_is_worth_what_its_maker_is_now(owner: Browser, join: Join, with_key: WithKey) -> None:
    admin = await join(owner, "admin")
    admin_id = (await admin.me())["user"]["id"]
    key = await with_key(admin, ["members:admin", "keys:admin"])
    assert (await key.get("/v1/api-keys")).status_code == 200
    assert (await owner.patch(f"/v1/members/{admin_id}", json={"role": "member"})).status_code == 200
    assert (await key.get("/v1/api-keys")).status_code == 403


async def test_a_key_ends_when_its_maker_leaves_and_stays_ended(
    owner: Browser, join: Join, with_key: WithKey, stack: Stack
) -> None:
    admin = await join(owner, "admin")
    me = (await admin.me())["user"]
    key = await with_key(admin, ["search"])
    key_id = (await key.exchanged())["credential_id"]
    assert (await owner.delete(f"/v1/members/{me['id']}")).status_code == 204
    assert not await key.counts()
    assert len(await published(stack, "identity.api_key.revoked.v1", key_id)) == 1
    made = (await owner.post("/v1/invitations", json={"email": me["email"]})).json()
    assert (await admin.post(f"/v1/invitations/{made['token']}/accept")).status_code == 200
    assert not await key.counts()


async def test_a_key_without_a_membership_does_not_count(owner: Browser, with_key: WithKey, stack: Stack) -> None:
    """Also if nobody had revoked it."""
    key = await with_key(owner, ["search"])
    tenant = uuid.UUID((await owner.me())["tenant"]["id"])
    await as_admin(stack, "UPDATE identity.memberships SET role = NULL WHERE tenant_id = $1", tenant)
    assert not await key.counts()


async def test_a_key_ends_with_its_tenant(owner: Browser, with_key: WithKey) -> None:
    key = await with_key(owner, ["search"])
    assert (await owner.delete(f"/v1/tenants/{(await owner.me())['tenant']['id']}")).status_code == 204
    assert not await key.counts()


async def test_keys_come_in_pages(owner: Browser, with_key: WithKey) -> None:
    await asyncio.gather(*(owner.post("/v1/api-keys", json={**ALL, "name": str(index)}) for index in range(3)))
    first = (await owner.get("/v1/api-keys", params={"limit": 2})).json()
    second = (await owner.get("/v1/api-keys", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [len(first["items"]), len(second["items"])] == [2, 1]
    assert second["next_cursor"] is None
    assert {item["name"] for item in first["items"] + second["items"]} == {"0", "1", "2"}


async def test_a_key_sees_only_its_own_tenant_of_its_maker(owner: Browser, with_key: WithKey) -> None:
    other = (await owner.post("/v1/tenants", json={"name": "another"})).json()
    key = await with_key(owner, ["tenant:admin"])
    me = await key.me()
    assert [tenant["id"] for tenant in me["tenants"]] == [me["tenant"]["id"]]
    assert me["scopes"] == ["tenant:admin"]
    assert len((await key.get("/v1/tenants")).json()["items"]) == 1
    assert (await key.get(f"/v1/tenants/{other['id']}")).status_code == 404
    assert (await key.patch(f"/v1/tenants/{other['id']}", json={"name": "x"})).status_code == 404


async def test_a_key_does_nothing_that_needs_a_person(owner: Browser, with_key: WithKey, gateway: Gateway) -> None:
    key = await with_key(owner, (await owner.me())["scopes"])
    tenant = (await owner.me())["tenant"]["id"]
    for method, path, body in (
        ("GET", "/v1/sessions", None),
        ("DELETE", f"/v1/sessions/{unknown_id()}", None),
        ("POST", "/v1/tenants", {"name": "x"}),
        ("POST", f"/v1/tenants/{tenant}/activate", None),
        ("POST", f"/v1/invitations/{'a' * 43}/accept", None),
    ):
        assert (await key.request(method, path, json=body)).status_code == 403, path


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/api-keys", {"name": "a\0b", "scopes": ["search"]}),
        ("/v1/tenants", {"name": "a\nb"}),
        ("/v1/invitations", {"email": "a\0b@example.test"}),
    ],
)
async def test_names_and_addresses_have_no_control_characters(
    owner: Browser, path: str, body: dict[str, object]
) -> None:
    answer = await owner.post(path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed"), answer.text
