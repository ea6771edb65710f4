"""Tenants: made by anybody signed in, seen by those who belong to them, switched explicitly."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from infra.local.stack import Stack
from tests.services.identity.callers import Browser, Caller, unknown_id
from tests.services.identity.events import published
from tests.services.identity.test_sessions import session_id

Join = Callable[..., Awaitable[Browser]]
WithKey = Callable[..., Awaitable[Caller]]


async def active_tenant(browser: Browser) -> str:
    return str((await browser.me())["tenant"]["id"])


async def test_who_makes_a_tenant_owns_it(owner: Browser, stack: Stack) -> None:
    answer = await owner.post("/v1/tenants", json={"name": "  Acme  "}, headers={"X-Request-ID": "made-it"})
    assert answer.status_code == 201
    assert answer.headers["etag"] == '"1"'
    made = answer.json()
    assert made == {**made, "name": "Acme", "role": "owner", "active": False}
    user = (await owner.me())["user"]["id"]
    [created] = await published(stack, "identity.tenant.created.v1", made["id"])
    assert created.data == {"tenant_id": made["id"], "name": "Acme", "owner_id": user}
    assert created.tenant_id == made["id"]
    assert created.correlation_id == "made-it"
    joined = await published(stack, "identity.membership.changed.v1", user)
    assert {"tenant_id": made["id"], "user_id": user, "role": "owner", "membership_number": 1} in [
        event.data for event in joined
    ]


async def test_a_person_switches_between_its_tenants(owner: Browser, stack: Stack) -> None:
    first = await active_tenant(owner)
    second = (await owner.post("/v1/tenants", json={"name": "second"})).json()["id"]
    before = (await owner.exchanged())["tokens"]
    answer = await owner.post(f"/v1/tenants/{second}/activate")
    assert answer.status_code == 200
    assert answer.json()["active"] is True
    assert await active_tenant(owner) == second
    assert before != (await owner.exchanged())["tokens"]
    listed = (await owner.get("/v1/tenants")).json()["items"]
    assert [(item["id"], item["active"]) for item in listed] == [(first, False), (second, True)]
    events = await published(stack, "identity.session.revoked.v1", str(await session_id(owner)))
    assert [event.tenant_id for event in events] == [first]
    await owner.post(f"/v1/tenants/{first}/activate")
    events = await published(stack, "identity.session.revoked.v1", str(await session_id(owner)))
    assert [(event.tenant_id, event.sequence) for event in events] == [(first, 2), (second, 3)]


async def test_leaving_no_tenant_active_still_lets_one_be_chosen(owner: Browser, stack: Stack) -> None:
    first = await active_tenant(owner)
    assert (await owner.delete(f"/v1/tenants/{first}")).status_code == 204
    me = await owner.me()
    assert me["tenant"] is None
    assert me["tenants"] == []
    assert me["scopes"] == []
    assert (await owner.get("/v1/members")).status_code == 403
    second = (await owner.post("/v1/tenants", json={"name": "second"})).json()["id"]
    assert (await owner.post(f"/v1/tenants/{second}/activate")).status_code == 200
    assert await active_tenant(owner) == second
    [event] = await published(stack, "identity.tenant.deleted.v1", first)
    assert (event.data, event.sequence) == ({"tenant_id": first}, 2)


async def test_a_tenant_is_renamed_under_its_etag(owner: Browser) -> None:
    tenant = await active_tenant(owner)
    etag = (await owner.get(f"/v1/tenants/{tenant}")).headers["etag"]
    answer = await owner.patch(f"/v1/tenants/{tenant}", json={"name": "new"}, headers={"If-Match": etag})
    assert answer.json()["name"] == "new"
    assert answer.headers["etag"] == '"2"'
    stale = await owner.patch(f"/v1/tenants/{tenant}", json={"name": "newer"}, headers={"If-Match": etag})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert (await owner.delete(f"/v1/tenants/{tenant}", headers={"If-Match": etag})).status_code == 412
    for tags in (f'"0", {answer.headers["etag"]}', "*"):
        any_of_them = await owner.patch(f"/v1/tenants/{tenant}", json={"name": "new"}, headers={"If-Match": tags})
        assert any_of_them.status_code == 200, (tags, any_of_them.text)
    assert (await owner.patch(f"/v1/tenants/{tenant}", json={"name": "newer"})).status_code == 200


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": " "}, {"name": "x" * 101}, {"name": "x", "id": "y"}])
async def test_a_malformed_tenant_is_refused(owner: Browser, body: dict[str, str]) -> None:
    assert (await owner.post("/v1/tenants", json=body)).status_code == 422
    assert (await owner.patch(f"/v1/tenants/{await active_tenant(owner)}", json=body)).status_code == 422


async def test_another_tenant_is_not_there(owner: Browser, outsider: Browser) -> None:
    for tenant in (await active_tenant(owner), unknown_id()):
        for method, path, body in (
            ("GET", f"/v1/tenants/{tenant}", None),
            ("PATCH", f"/v1/tenants/{tenant}", {"name": "x"}),
            ("DELETE", f"/v1/tenants/{tenant}", None),
            ("POST", f"/v1/tenants/{tenant}/activate", None),
        ):
            answer = await outsider.request(method, path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    assert (await owner.me())["tenant"] is not None


async def test_an_own_tenant_that_is_not_active_is_only_looked_at(owner: Browser) -> None:
    other = (await owner.post("/v1/tenants", json={"name": "other"})).json()["id"]
    assert (await owner.get(f"/v1/tenants/{other}")).json()["active"] is False
    assert (await owner.patch(f"/v1/tenants/{other}", json={"name": "x"})).status_code == 404
    assert (await owner.delete(f"/v1/tenants/{other}")).status_code == 404


async def test_a_member_changes_nothing_and_an_admin_does_not_delete(owner: Browser, join: Join) -> None:
    tenant = await active_tenant(owner)
    member, admin = await join(owner, "member"), await join(owner, "admin")
    assert (await member.get(f"/v1/tenants/{tenant}")).json()["role"] == "member"
    assert (await member.patch(f"/v1/tenants/{tenant}", json={"name": "x"})).status_code == 403
    assert (await member.delete(f"/v1/tenants/{tenant}")).status_code == 403
    assert (await admin.patch(f"/v1/tenants/{tenant}", json={"name": "x"})).status_code == 200
    assert (await admin.delete(f"/v1/tenants/{tenant}")).status_code == 403
    assert set((await member.me())["scopes"]) == {
        "projects:read",
        "projects:write",
        "documents:read",
        "documents:write",
        "search",
        "events:read",
        "members:admin",
    }


async def test_a_deleted_tenant_is_gone_for_all_its_members(owner: Browser, join: Join, with_key: WithKey) -> None:
    tenant = await active_tenant(owner)
    member = await join(owner, "member")
    late = (await owner.exchanged())["tokens"]["identity"]
    assert (await owner.delete(f"/v1/tenants/{tenant}")).status_code == 204
    assert (await member.me())["tenant"] is None
    assert (await member.exchanged())["tenant_id"] is None
    assert (await member.get(f"/v1/tenants/{tenant}")).status_code == 404
    assert (await member.post(f"/v1/tenants/{tenant}/activate")).status_code == 404
    # A token issued a moment before changes nothing either.
    headers = {"Authorization": f"Bearer {late}"}
    client = owner.gateway.client
    assert (await client.patch(f"/v1/tenants/{tenant}", json={"name": "x"}, headers=headers)).status_code == 404
    user = (await member.me())["user"]["id"]
    changed = await client.patch(f"/v1/members/{user}", json={"role": "admin"}, headers=headers)
    assert changed.status_code == 404


async def test_anonymous_callers_are_refused(client: httpx.AsyncClient) -> None:
    path = f"/v1/tenants/{unknown_id()}"
    for method, target in (
        ("GET", "/v1/me"),
        ("GET", "/v1/tenants"),
        ("POST", "/v1/tenants"),
        ("GET", path),
        ("PATCH", path),
        ("DELETE", path),
        ("POST", f"{path}/activate"),
    ):
        assert (await client.request(method, target, json={"name": "x"})).status_code == 401


async def test_tenants_come_in_pages(owner: Browser) -> None:
    for name in ("b", "c"):
        await owner.post("/v1/tenants", json={"name": name})
    first = (await owner.get("/v1/tenants", params={"limit": 2})).json()
    second = (await owner.get("/v1/tenants", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [item["name"] for item in (*first["items"], *second["items"])][1:] == ["b", "c"]
    assert second["next_cursor"] is None
    assert (await owner.get("/v1/tenants", params={"cursor": "x"})).json()["code"] == "invalid_cursor"


async def test_a_session_that_ended_a_moment_ago_activates_nothing(owner: Browser) -> None:
    tenant = await active_tenant(owner)
    late = (await owner.exchanged())["tokens"]["identity"]
    await owner.jar.post("/auth/logout", headers={"X-CSRF-Token": owner.csrf})
    headers = {"Authorization": f"Bearer {late}"}
    assert (await owner.gateway.client.post(f"/v1/tenants/{tenant}/activate", headers=headers)).status_code == 401
