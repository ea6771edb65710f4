"""Nobody passes on more than it has, and what it passed on ends with it."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from infra.local.stack import Stack
from shared.auth import ALL_SCOPES
from tests.services.identity.admin import as_admin, holding_tenant
from tests.services.identity.callers import Browser, Caller, unknown_id
from tests.services.identity.conftest import SignIn
from tests.services.identity.events import published
from tests.services.identity.projects import ProjectsDouble

Join = Callable[..., Awaitable[Browser]]
WithKey = Callable[..., Awaitable[Caller]]
EVERYTHING = sorted(scope.value for scope in ALL_SCOPES)
REVOKED = "identity.api_key.revoked.v1"


async def user_id(browser: Browser) -> str:
    return str((await browser.me())["user"]["id"])


async def key_id(key: Caller) -> str:
    return str((await key.exchanged())["credential_id"])


async def invite(by: Caller, guest: Browser, role: str) -> str:
    email = (await guest.me())["user"]["email"]
    answer = await by.post("/v1/invitations", json={"email": email, "role": role})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def derived(maker: Caller, scopes: list[str]) -> Caller:
    answer = await maker.post("/v1/api-keys", json={"name": "derived", "scopes": scopes})
    assert answer.status_code == 201, answer.text
    assert answer.json()["created_by_key"] == await key_id(maker)
    return Caller(maker.gateway, "api_key", answer.json()["key"])


# --- no grant beyond the grantor's own -------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["admin", "owner"])
async def test_a_key_for_members_alone_makes_nobody_more_than_a_member(
    owner: Browser, outsider: Browser, join: Join, with_key: WithKey, role: str
) -> None:
    key = await with_key(owner, ["members:admin"])
    email = (await outsider.me())["user"]["email"]
    assert code(await key.post("/v1/invitations", json={"email": email, "role": role})) == (403, "grant_too_wide")
    plain = await join(owner, "member")
    changed = await key.patch(f"/v1/members/{await user_id(plain)}", json={"role": role})
    assert code(changed) == (403, "grant_too_wide")
    assert await invite(key, outsider, "member")


async def test_a_key_with_every_scope_gives_what_its_user_may_give(
    owner: Browser, outsider: Browser, join: Join, with_key: WithKey
) -> None:
    assert await invite(await with_key(owner, EVERYTHING), outsider, "owner")
    admin = await join(owner, "admin")
    key = await with_key(admin, EVERYTHING)
    email = (await outsider.me())["user"]["email"]
    assert code(await key.post("/v1/invitations", json={"email": email, "role": "owner"})) == (403, "owners_only")
    assert code(await key.patch(f"/v1/members/{await user_id(admin)}", json={"role": "owner"})) == (403, "owners_only")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/invitations", {"email": "a@example.test"}),
        ("POST", "/v1/api-keys", {"name": "x", "scopes": ["search"]}),
        ("PATCH", "/v1/members/{user}", {"role": "member"}),
        ("DELETE", "/v1/members/{user}", None),
    ],
)
async def test_a_key_tied_to_a_project_passes_nothing_on(
    owner: Browser, join: Join, with_key: WithKey, method: str, path: str, body: dict[str, Any] | None
) -> None:
    tied = await with_key(owner, EVERYTHING, project_id=unknown_id())
    member = await user_id(await join(owner, "member"))
    answer = await tied.request(method, path.format(user=member), json=body)
    assert answer.status_code == 403


async def test_what_a_grantor_is_counts_at_the_moment_of_the_grant(owner: Browser, join: Join, stack: Stack) -> None:
    """A token that still says `admin`: the role is read again, under the lock that its removal takes."""
    admin = await join(owner, "admin")
    token = (await admin.exchanged())["tokens"]["identity"]
    headers = {"Authorization": f"Bearer {token}"}
    mine = await user_id(admin)
    assert (await owner.patch(f"/v1/members/{mine}", json={"role": "member"})).status_code == 200
    client = owner.gateway.client
    for path, body in (
        ("/v1/invitations", {"email": "a@example.test"}),
        ("/v1/api-keys", {"name": "x", "scopes": ["search"]}),
    ):
        assert (await client.post(path, json=body, headers=headers)).status_code == 403, path
    assert (await client.patch(f"/v1/members/{mine}", json={"role": "admin"}, headers=headers)).status_code == 403
    assert (await owner.delete(f"/v1/members/{mine}")).status_code == 204
    gone = await client.post("/v1/api-keys", json={"name": "x", "scopes": ["search"]}, headers=headers)
    assert gone.status_code == 401


# --- checked again when it takes effect ------------------------------------------------------------------------------


async def test_an_invitation_ends_with_the_membership_of_who_sent_it(
    owner: Browser, outsider: Browser, join: Join
) -> None:
    admin = await join(owner, "admin")
    token = await invite(admin, outsider, "admin")
    assert (await owner.delete(f"/v1/members/{await user_id(admin)}")).status_code == 204
    assert code(await outsider.post(f"/v1/invitations/{token}/accept")) == (404, "not_found")
    assert (await owner.get("/v1/invitations")).json()["items"] == []


@pytest.mark.parametrize(("role", "demoted_to", "stands"), [("owner", "admin", False), ("admin", "admin", True)])
async def test_an_invitation_stands_while_its_sender_could_send_it(
    owner: Browser, outsider: Browser, join: Join, role: str, demoted_to: str, stands: bool
) -> None:
    second = await join(owner, "owner")
    token = await invite(second, outsider, role)
    assert (await owner.patch(f"/v1/members/{await user_id(second)}", json={"role": demoted_to})).status_code == 200
    answer = await outsider.post(f"/v1/invitations/{token}/accept")
    assert answer.status_code == (200 if stands else 404)


async def test_the_sender_is_looked_at_when_the_invitation_is_accepted(
    owner: Browser, outsider: Browser, join: Join, stack: Stack
) -> None:
    """Also where nothing has ended the invitation itself."""
    admin = await join(owner, "admin")
    token = await invite(admin, outsider, "admin")
    statement = "UPDATE identity.memberships SET role = 'member' WHERE user_id = $1"
    await as_admin(stack, statement, uuid.UUID(await user_id(admin)))
    assert code(await outsider.post(f"/v1/invitations/{token}/accept")) == (404, "not_found")


async def test_an_invitation_ends_with_the_key_it_was_sent_with(
    owner: Browser, outsider: Browser, with_key: WithKey
) -> None:
    key = await with_key(owner, ["members:admin"])
    token = await invite(key, outsider, "member")
    [shown] = (await owner.get("/v1/invitations")).json()["items"]
    assert (shown["invited_by"], shown["invited_by_key"]) == (await user_id(owner), await key_id(key))
    assert (await owner.delete(f"/v1/api-keys/{await key_id(key)}")).status_code == 204
    assert code(await outsider.post(f"/v1/invitations/{token}/accept")) == (404, "not_found")


async def test_an_invitation_does_not_outlive_the_key_it_was_sent_with(
    owner: Browser, outsider: Browser, with_key: WithKey, stack: Stack
) -> None:
    key = await with_key(owner, ["members:admin"])
    token = await invite(key, outsider, "member")
    statement = "UPDATE identity.api_keys SET expires_at = now() WHERE id = $1"
    await as_admin(stack, statement, uuid.UUID(await key_id(key)))
    assert code(await outsider.post(f"/v1/invitations/{token}/accept")) == (404, "not_found")


async def test_an_invitation_kept_back_does_not_bring_a_removed_member_back(owner: Browser, join: Join) -> None:
    member = await join(owner, "member")
    kept = await invite(owner, member, "admin")
    assert (await member.post(f"/v1/invitations/{kept}/accept")).status_code == 409
    assert (await owner.delete(f"/v1/members/{await user_id(member)}")).status_code == 204
    assert code(await member.post(f"/v1/invitations/{kept}/accept")) == (404, "not_found")


# --- what was passed on ends with it ---------------------------------------------------------------------------------


async def test_revoking_a_key_revokes_the_keys_made_with_it_and_theirs(
    owner: Browser, with_key: WithKey, stack: Stack
) -> None:
    first = await with_key(owner, ["keys:admin", "search"])
    second = await derived(first, ["keys:admin", "search"])
    third = await derived(second, ["search"])
    other = await with_key(owner, ["search"])
    ids = [await key_id(key) for key in (first, second, third)]
    assert (await owner.delete(f"/v1/api-keys/{ids[0]}")).status_code == 204
    assert [await key.counts() for key in (first, second, third, other)] == [False, False, False, True]
    for revoked in ids:
        assert len(await published(stack, REVOKED, revoked)) == 1


async def test_a_key_that_makes_another_while_it_is_revoked_leaves_none_behind(
    owner: Browser, with_key: WithKey, stack: Stack
) -> None:
    """Both wait for the tenant; whichever comes first, nothing of the key is left."""
    for _ in range(3):
        maker = await with_key(owner, ["keys:admin", "search"])
        mine = await key_id(maker)
        async with holding_tenant(stack, (await owner.me())["tenant"]["id"], until_waiting=2):
            both = [
                asyncio.create_task(maker.post("/v1/api-keys", json={"name": "late", "scopes": ["search"]})),
                asyncio.create_task(owner.delete(f"/v1/api-keys/{mine}")),
            ]
        made, revoked = await asyncio.gather(*both)
        assert revoked.status_code == 204
        assert made.status_code in (201, 401)
        if made.status_code == 201:
            assert not await Caller(owner.gateway, "api_key", made.json()["key"]).counts()


async def test_a_key_is_for_a_project_of_the_tenant(owner: Browser, projects: ProjectsDouble) -> None:
    body = {"name": "x", "scopes": ["search"]}
    gone, deleted, there = unknown_id(), unknown_id(), unknown_id()
    projects.missing.add(gone)
    projects.deleted.add(deleted)
    for project_id in (gone, deleted):
        answer = await owner.post("/v1/api-keys", json={**body, "project_id": project_id})
        assert code(answer) == (422, "project_unknown")
    assert (await owner.post("/v1/api-keys", json={**body, "project_id": there})).status_code == 201
    projects.away = True
    try:
        answer = await owner.post("/v1/api-keys", json={**body, "project_id": there})
    finally:
        projects.away = False
    assert code(answer) == (503, "unavailable")


async def test_nobody_asks_about_a_project_who_may_make_no_key(
    owner: Browser, join: Join, projects: ProjectsDouble
) -> None:
    member = await join(owner, "member")
    before = len(projects.credentials)
    body = {"name": "x", "scopes": ["search"], "project_id": unknown_id()}
    assert (await member.post("/v1/api-keys", json=body)).status_code == 403
    assert len(projects.credentials) == before


async def test_a_person_who_signs_in_again_is_not_another(sign_in: SignIn) -> None:
    """Addresses that differ in case are one; the account elsewhere decides."""
    first = await sign_in()
    me = (await first.me())["user"]
    again = await sign_in(email=me["email"].upper())
    assert (await again.me())["user"]["id"] == me["id"]
