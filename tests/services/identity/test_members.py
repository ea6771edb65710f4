"""Members: who may see, change and remove whom."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from infra.local.stack import Stack
from tests.services.identity.admin import holding_tenant
from tests.services.identity.callers import Browser, Caller, unknown_id
from tests.services.identity.conftest import as_projects
from tests.services.identity.events import published

Join = Callable[..., Awaitable[Browser]]
WithKey = Callable[..., Awaitable[Caller]]
CHANGED = "identity.membership.changed.v1"


async def user_id(browser: Browser) -> str:
    return str((await browser.me())["user"]["id"])


async def role_of(browser: Browser, user: str) -> str | None:
    items = (await browser.get("/v1/members")).json()["items"]
    return next((item["role"] for item in items if item["user_id"] == user), None)


async def set_role(browser: Browser, user: str, role: str) -> httpx.Response:
    return await browser.patch(f"/v1/members/{user}", json={"role": role})


async def test_members_know_each_other(owner: Browser, join: Join) -> None:
    member = await join(owner, "member")
    first = (await owner.me())["user"]
    second = (await member.me())["user"]
    items = (await member.get("/v1/members")).json()["items"]
    assert [(item["user_id"], item["name"], item["email"], item["role"]) for item in items] == [
        (first["id"], first["name"], first["email"], "owner"),
        (second["id"], second["name"], second["email"], "member"),
    ]


async def test_members_come_in_pages(owner: Browser, join: Join) -> None:
    await join(owner, "member")
    first = (await owner.get("/v1/members", params={"limit": 1})).json()
    second = (await owner.get("/v1/members", params={"limit": 1, "cursor": first["next_cursor"]})).json()
    assert [item["role"] for item in (*first["items"], *second["items"])] == ["owner", "member"]
    assert second["next_cursor"] is None


async def test_another_tenants_members_are_not_there(owner: Browser, outsider: Browser) -> None:
    user = await user_id(owner)
    assert [item["user_id"] for item in (await outsider.get("/v1/members")).json()["items"]] == [
        await user_id(outsider)
    ]
    for target in (user, unknown_id()):
        assert (await set_role(outsider, target, "member")).status_code == 404
        assert (await outsider.delete(f"/v1/members/{target}")).status_code == 404
    assert await role_of(owner, user) == "owner"


async def test_a_role_is_changed_and_announced(owner: Browser, join: Join, stack: Stack) -> None:
    member = await join(owner, "member")
    user = await user_id(member)
    answer = await set_role(owner, user, "admin")
    assert answer.json()["role"] == "admin"
    assert (await set_role(owner, user, "admin")).status_code == 200
    tenant = (await owner.me())["tenant"]["id"]
    events = [event for event in await published(stack, CHANGED, user) if event.tenant_id == tenant]
    assert [(event.data["role"], event.sequence) for event in events] == [("member", 1), ("admin", 2)]
    assert (await member.me())["tenant"]["role"] == "admin"


async def test_a_removed_member_sees_nothing_and_may_return(owner: Browser, join: Join, stack: Stack) -> None:
    member = await join(owner, "member")
    me = (await member.me())["user"]
    tenant = (await owner.me())["tenant"]["id"]
    assert (await owner.delete(f"/v1/members/{me['id']}")).status_code == 204
    assert (await owner.delete(f"/v1/members/{me['id']}")).status_code == 404
    assert (await set_role(owner, me["id"], "admin")).status_code == 404
    assert (await member.me())["tenant"] is None
    exchanged = await member.exchanged()
    assert exchanged["tenant_id"] is None
    assert (await member.get("/v1/members")).status_code == 403
    assert await role_of(owner, me["id"]) is None
    made = (await owner.post("/v1/invitations", json={"email": me["email"]})).json()
    assert (await member.post(f"/v1/invitations/{made['token']}/accept")).status_code == 200
    events = [event for event in await published(stack, CHANGED, me["id"]) if event.tenant_id == tenant]
    assert [(event.data["role"], event.sequence) for event in events] == [("member", 1), (None, 2), ("member", 3)]


async def test_a_member_leaves(owner: Browser, join: Join) -> None:
    member = await join(owner, "member")
    assert (await member.delete(f"/v1/members/{await user_id(member)}")).status_code == 204
    assert (await member.me())["tenant"] is None


async def test_the_last_owner_stays_owner(owner: Browser, join: Join) -> None:
    await join(owner, "admin")
    user = await user_id(owner)
    for answer in (await owner.delete(f"/v1/members/{user}"), await set_role(owner, user, "admin")):
        assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")
    assert await role_of(owner, user) == "owner"


async def test_ownership_is_handed_over(owner: Browser, join: Join) -> None:
    admin = await join(owner, "admin")
    assert (await set_role(owner, await user_id(admin), "owner")).status_code == 200
    assert (await owner.delete(f"/v1/members/{await user_id(owner)}")).status_code == 204
    assert [item["role"] for item in (await admin.get("/v1/members")).json()["items"]] == ["owner"]


async def test_two_owners_who_leave_at_once_leave_one_behind(owner: Browser, join: Join, stack: Stack) -> None:
    second = await join(owner, "owner")
    users = [await user_id(owner), await user_id(second)]
    async with holding_tenant(stack, (await owner.me())["tenant"]["id"], until_waiting=2):
        leaving = [
            asyncio.create_task(browser.delete(f"/v1/members/{user}"))
            for browser, user in zip((owner, second), users, strict=True)
        ]
    answers = await asyncio.gather(*leaving)
    assert sorted(answer.status_code for answer in answers) == [204, 409]


async def test_admins_do_not_touch_owners(owner: Browser, join: Join) -> None:
    admin, member = await join(owner, "admin"), await join(owner, "member")
    second = await join(owner, "owner")
    for answer in (
        await set_role(admin, await user_id(second), "member"),
        await admin.delete(f"/v1/members/{await user_id(second)}"),
        await set_role(admin, await user_id(admin), "owner"),
        await set_role(admin, await user_id(member), "owner"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "owners_only")
    assert (await set_role(admin, await user_id(member), "admin")).status_code == 200
    assert (await admin.delete(f"/v1/members/{await user_id(member)}")).status_code == 204
    assert (await second.delete(f"/v1/members/{await user_id(second)}")).status_code == 204


async def test_a_plain_member_changes_nobody(owner: Browser, join: Join) -> None:
    member, other = await join(owner, "member"), await join(owner, "member")
    for target in (await user_id(owner), await user_id(other), await user_id(member)):
        assert (await set_role(member, target, "admin")).status_code == 403
    assert (await member.delete(f"/v1/members/{await user_id(other)}")).status_code == 403


@pytest.mark.parametrize("limits", [{"scopes": ["search"]}, {"scopes": ["members:admin"], "project_id": unknown_id()}])
async def test_a_key_without_the_scope_or_tied_to_a_project_sees_no_members(
    owner: Browser, with_key: WithKey, limits: dict[str, object]
) -> None:
    key = await with_key(owner, **limits)
    user = await user_id(owner)
    assert (await key.get("/v1/members")).status_code == 403
    assert (await key.patch(f"/v1/members/{user}", json={"role": "admin"})).status_code == 403
    assert (await key.delete(f"/v1/members/{user}")).status_code == 403


async def test_anonymous_callers_are_refused(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/members")).status_code == 401
    assert (await client.patch(f"/v1/members/{unknown_id()}", json={"role": "admin"})).status_code == 401
    assert (await client.delete(f"/v1/members/{unknown_id()}")).status_code == 401


@pytest.mark.parametrize("body", [{}, {"role": "king"}, {"role": None}, {"role": "admin", "user_id": "x"}])
async def test_a_malformed_change_is_refused(owner: Browser, body: dict[str, str]) -> None:
    assert (await owner.patch(f"/v1/members/{unknown_id()}", json=body)).status_code == 422


async def test_memberships_are_numbered_and_other_services_may_ask(
    owner: Browser, join: Join, with_key: WithKey, client: httpx.AsyncClient, stack: Stack
) -> None:
    """What was granted in an earlier membership can be told from what is granted in this one."""
    member = await join(owner, "member")
    user, stranger = await user_id(member), unknown_id()
    tenant = (await owner.me())["tenant"]["id"]

    async def numbers() -> dict[str, int]:
        answer = await client.post(
            "/internal/members",
            json={"user_ids": [user, stranger]},
            headers=await as_projects(client, tenant),
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, int] = answer.json()["numbers"]
        return found

    assert await numbers() == {user: 1}
    assert (await owner.delete(f"/v1/members/{user}")).status_code == 204
    assert await numbers() == {}
    made = await owner.post("/v1/invitations", json={"email": (await member.me())["user"]["email"], "role": "member"})
    assert (await member.post(f"/v1/invitations/{made.json()['token']}/accept")).status_code == 200
    assert await numbers() == {user: 2}
    told = [event for event in await published(stack, CHANGED, user) if event.tenant_id == tenant]
    assert [event.data["membership_number"] for event in told] == [1, 1, 2]
    assert (await owner.post("/internal/members", json={"user_ids": [user]})).status_code == 403
