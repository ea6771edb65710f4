"""Tokens with which a service calls another for its client: with no more than the client may, and the table gives."""

import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import httpx
import pytest

from infra.local.stack import Stack
from shared.auth import AUDIENCES, PrincipalKind, TokenVerifier
from shared.delegation import DELEGATED, Delegation
from shared.errors import Unauthenticated, Unavailable
from tests.services.identity.admin import as_admin
from tests.services.identity.callers import Browser, Caller
from tests.services.identity.conftest import SERVICE_SECRETS
from tests.support.identity import unverified
from tests.support.serving import StartedApp, serve

WithKey = Callable[..., Awaitable[Caller]]
INDEXING = httpx.BasicAuth("indexing", SERVICE_SECRETS["indexing"])


async def passed_on(
    client: httpx.AsyncClient, token: str, audience: str = "projects", auth: httpx.BasicAuth = INDEXING
) -> httpx.Response:
    return await client.post("/internal/delegated-token", json={"token": token, "audience": audience}, auth=auth)


async def claims_passed_on(client: httpx.AsyncClient, token: str) -> dict[str, Any] | None:
    answer = await passed_on(client, token)
    assert answer.status_code == 200, answer.text
    given = answer.json()["token"]
    return None if given is None else unverified(given)


async def of_request(caller: Caller) -> str:
    """The token that a request of the caller reaches indexing with."""
    token: str = (await caller.exchanged())["tokens"]["indexing"]
    return token


async def test_a_service_calls_another_as_its_client(app: StartedApp, owner: Browser, with_key: WithKey) -> None:
    """With the very code that services use."""
    project = uuid.uuid4()
    key = await with_key(owner, ["projects:read", "documents:write", "search"], project_id=str(project))
    exchanged = await key.exchanged()
    async with serve(app) as url, aiohttp.ClientSession() as http:
        delegation = Delegation("indexing", SERVICE_SECRETS["indexing"], url, http)
        token = await delegation.token(exchanged["tokens"]["indexing"], "projects")
        principal = await TokenVerifier("projects", url, http).verify(token)
        with pytest.raises(Unauthenticated):
            await TokenVerifier("indexing", url, http).verify(token)
        with pytest.raises(Unauthenticated):
            await delegation.token("a.forged.token", "projects")
        with pytest.raises(Unavailable):
            await delegation.token(exchanged["tokens"]["indexing"], "notifier")
    assert principal.kind is PrincipalKind.API_KEY
    assert str(principal.tenant_id) == exchanged["tenant_id"]
    assert str(principal.user_id) == exchanged["user_id"]
    assert str(principal.credential_id) == exchanged["credential_id"]
    assert principal.project_id == project
    assert principal.limit == {"projects:read"}


async def test_what_is_not_in_the_table_is_not_passed_on(owner: Browser, client: httpx.AsyncClient) -> None:
    claims = await claims_passed_on(client, await of_request(owner))
    assert claims is not None
    assert set(claims["scope"].split()) == DELEGATED["indexing"]["projects"]


async def test_what_is_passed_on_is_for_the_request_at_hand(owner: Browser, client: httpx.AsyncClient) -> None:
    claims = await claims_passed_on(client, await of_request(owner))
    assert claims is not None
    assert claims["exp"] <= time.time() + 10


@pytest.mark.parametrize("caller", [name for name in SERVICE_SECRETS if name != "indexing"])
async def test_no_other_service_passes_anything_on(owner: Browser, client: httpx.AsyncClient, caller: str) -> None:
    tokens = (await owner.exchanged())["tokens"]
    auth = httpx.BasicAuth(caller, SERVICE_SECRETS[caller])
    for audience in AUDIENCES:
        for token in tokens.values():
            assert (await passed_on(client, token, audience, auth)).status_code == 403


async def test_nothing_is_passed_on_to_where_the_table_does_not_lead(owner: Browser, client: httpx.AsyncClient) -> None:
    token = await of_request(owner)
    for audience in set(AUDIENCES) - DELEGATED["indexing"].keys():
        assert (await passed_on(client, token, audience)).status_code == 403


async def test_only_a_token_for_the_service_itself_is_passed_on(owner: Browser, client: httpx.AsyncClient) -> None:
    tokens = (await owner.exchanged())["tokens"]
    for audience in set(AUDIENCES) - {"indexing"}:
        assert await claims_passed_on(client, tokens[audience]) is None


async def test_what_a_service_may_is_not_passed_on(client: httpx.AsyncClient, tenant_id: uuid.UUID) -> None:
    answer = await client.post(
        "/internal/service-token",
        json={"audience": "indexing", "tenant_id": str(tenant_id)},
        auth=httpx.BasicAuth("notifier", SERVICE_SECRETS["notifier"]),
    )
    assert (await passed_on(client, answer.json()["token"])).status_code == 403


async def test_a_credential_that_counts_no_longer_passes_nothing_on(
    owner: Browser, with_key: WithKey, client: httpx.AsyncClient, stack: Stack
) -> None:
    """Though the token that the request came with is still valid by itself."""
    key = await with_key(owner, ["projects:read"])
    token = await of_request(key)
    until = datetime.now(UTC) + timedelta(seconds=5)
    key_id = uuid.UUID((await key.exchanged())["credential_id"])
    await as_admin(stack, "UPDATE identity.api_keys SET expires_at = $2 WHERE id = $1", key_id, until)
    claims = await claims_passed_on(client, token)
    assert claims is not None and claims["exp"] <= until.timestamp()
    await owner.delete(f"/v1/api-keys/{key_id}")
    assert await claims_passed_on(client, token) is None


async def test_a_session_that_went_to_another_tenant_passes_nothing_on(
    owner: Browser, client: httpx.AsyncClient
) -> None:
    token = await of_request(owner)
    made = await owner.post("/v1/tenants", json={"name": "Elsewhere"})
    assert (await owner.post(f"/v1/tenants/{made.json()['id']}/activate")).status_code == 200
    assert await claims_passed_on(client, token) is None
    assert await claims_passed_on(client, await of_request(owner)) is not None


async def test_what_a_role_no_longer_gives_is_not_passed_on(
    owner: Browser, join: Callable[..., Awaitable[Browser]], client: httpx.AsyncClient
) -> None:
    admin = await join(owner, "admin")
    token = await of_request(admin)
    user = (await admin.me())["user"]["id"]
    await owner.patch(f"/v1/members/{user}", json={"role": "member"})
    claims = await claims_passed_on(client, token)
    assert claims is not None and claims["trole"] == "member"
    await owner.delete(f"/v1/members/{user}")
    assert await claims_passed_on(client, token) is None
