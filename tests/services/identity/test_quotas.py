"""Shares of one user and of one tenant: so much, also when it is asked for all at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from infra.local.stack import Stack
from services.identity.dependencies import Resources
from tests.services.identity.admin import as_admin
from tests.services.identity.callers import Browser, Caller
from tests.services.identity.conftest import SignIn
from tests.support.serving import StartedApp

Join = Callable[..., Awaitable[Browser]]
Limited = Callable[..., None]


@pytest.fixture
def limited(app: StartedApp) -> Iterator[Limited]:
    """Sets quotas of the running service for one test."""
    before = app.resources(Resources)

    def limit(**quotas: int) -> None:
        app.state["resources"] = replace(before, settings=before.settings.model_copy(update=quotas))

    yield limit
    app.state["resources"] = before


async def at_once(calls: list[Awaitable[httpx.Response]]) -> list[httpx.Response]:
    return await asyncio.gather(*calls)


def refused(answers: list[httpx.Response], quota: str, limit: int) -> int:
    """How many were refused, all for that quota."""
    problems: list[dict[str, Any]] = [answer.json() for answer in answers if answer.status_code != 201]
    for problem in problems:
        assert (problem["status"], problem["code"], problem["quota"]) == (403, "quota_exceeded", quota)
        assert (problem["limit"], problem["used"]) == (limit, limit)
    return len(problems)


async def test_a_user_has_so_many_tenants(owner: Browser, limited: Limited) -> None:
    """The first is the one made at sign-in."""
    limited(max_tenants_per_user=4)
    answers = await at_once([owner.post("/v1/tenants", json={"name": f"t{number}"}) for number in range(8)])
    assert refused(answers, "tenants_per_user", 4) == 5
    assert len((await owner.get("/v1/tenants")).json()["items"]) == 4


async def test_tenants_given_away_still_count_for_who_made_them(owner: Browser, join: Join, limited: Limited) -> None:
    limited(max_tenants_per_user=1)
    other = await join(owner, "owner")
    mine = (await owner.me())["user"]["id"]
    assert (await other.patch(f"/v1/members/{mine}", json={"role": "member"})).status_code == 200
    assert refused([await owner.post("/v1/tenants", json={"name": "again"})], "tenants_per_user", 1) == 1


async def test_a_user_makes_so_many_tenants_in_an_hour_deleted_ones_too(
    owner: Browser, limited: Limited, stack: Stack
) -> None:
    limited(max_new_tenants_per_hour=3)
    for number in range(2):
        made = (await owner.post("/v1/tenants", json={"name": f"t{number}"})).json()
        assert (await owner.post(f"/v1/tenants/{made['id']}/activate")).status_code == 200
        assert (await owner.delete(f"/v1/tenants/{made['id']}", headers={"If-Match": '"1"'})).status_code == 204
    answer = await owner.post("/v1/tenants", json={"name": "one more"})
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert 3000 < int(answer.headers["Retry-After"]) <= 3600
    await as_admin(
        stack,
        "UPDATE identity.tenants SET created_at = created_at - interval '1 hour' WHERE created_by = $1",
        (await owner.me())["user"]["id"],
    )
    assert (await owner.post("/v1/tenants", json={"name": "one more"})).status_code == 201


async def test_a_tenant_has_so_many_keys(owner: Browser, limited: Limited) -> None:
    limited(max_api_keys_per_tenant=3)
    body = {"name": "k", "scopes": ["search"]}
    answers = await at_once([owner.post("/v1/api-keys", json=body) for _ in range(6)])
    assert refused(answers, "api_keys_per_tenant", 3) == 3
    [first, *_] = (await owner.get("/v1/api-keys")).json()["items"]
    assert (await owner.delete(f"/v1/api-keys/{first['id']}")).status_code == 204
    assert (await owner.post("/v1/api-keys", json=body)).status_code == 201


async def test_a_tenant_has_so_many_open_invitations(owner: Browser, limited: Limited) -> None:
    limited(max_invitations_per_tenant=3)
    bodies = [{"email": f"{number}@example.test"} for number in range(6)]
    answers = await at_once([owner.post("/v1/invitations", json=body) for body in bodies])
    assert refused(answers, "invitations_per_tenant", 3) == 3
    open_one = (await owner.get("/v1/invitations")).json()["items"][0]
    again = await owner.post("/v1/invitations", json={"email": open_one["email"]})
    assert again.status_code == 201, "it replaces one"


async def test_a_tenant_has_so_many_members(owner: Browser, sign_in: SignIn, limited: Limited) -> None:
    guests = [await sign_in() for _ in range(3)]
    tokens = []
    for guest in guests:
        email = (await guest.me())["user"]["email"]
        tokens.append((await owner.post("/v1/invitations", json={"email": email})).json()["token"])
    limited(max_members_per_tenant=2)
    answers = await at_once(
        [guest.post(f"/v1/invitations/{token}/accept") for guest, token in zip(guests, tokens, strict=True)]
    )
    assert sorted(answer.status_code for answer in answers) == [200, 403, 403]
    problem = next(answer.json() for answer in answers if answer.status_code == 403)
    assert (problem["quota"], problem["limit"], problem["used"]) == ("members_per_tenant", 2, 2)
    assert len((await owner.get("/v1/members")).json()["items"]) == 2


async def test_a_key_that_is_refused_leaves_nothing(owner: Browser, limited: Limited) -> None:
    limited(max_api_keys_per_tenant=1)
    body = {"name": "k", "scopes": ["search"]}
    made = (await owner.post("/v1/api-keys", json=body)).json()
    assert (await owner.post("/v1/api-keys", json=body)).status_code == 403
    assert [key["id"] for key in (await owner.get("/v1/api-keys")).json()["items"]] == [made["id"]]
    assert await Caller(owner.gateway, "api_key", made["key"]).counts()
