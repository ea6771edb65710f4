"""Operators get tokens about no tenant, with their own secret and for nothing but what is theirs."""

import uuid

import aiohttp
import httpx
import pytest
from sqlalchemy import delete

from shared.auth import AUDIENCES, Principal, PrincipalKind, TokenVerifier
from shared.dead_letters import DeadLetter
from shared.service_permissions import Operation
from shared.tenancy import Database
from tests.services.identity.callers import Browser, Gateway
from tests.services.identity.conftest import SERVICE_SECRETS
from tests.support.letters import CANARY, stored
from tests.support.serving import StartedApp, serve

OPERATOR = httpx.BasicAuth("operator", SERVICE_SECRETS["operator"])


async def operator_token(client: httpx.AsyncClient, audience: str) -> str:
    answer = await client.post("/internal/operator-token", json={"audience": audience}, auth=OPERATOR)
    assert answer.status_code == 200, answer.text
    assert answer.json()["expires_in"] == 60
    return str(answer.json()["token"])


@pytest.mark.parametrize("audience", AUDIENCES)
async def test_an_operators_token_is_good_for_one_service_and_for_no_tenant(
    app: StartedApp, client: httpx.AsyncClient, audience: str
) -> None:
    token = await operator_token(client, audience)
    async with serve(app) as url, aiohttp.ClientSession() as http:
        principal = await TokenVerifier(audience, url, http).verify(token)
    assert principal == Principal(
        kind=PrincipalKind.SERVICE,
        subject="operator",
        user_id=None,
        tenant_id=None,
        tenant_role=None,
        limit=frozenset(),
        operations=frozenset({Operation.MANAGE_DEAD_LETTERS}),
    )


@pytest.mark.parametrize("service", ["gateway", "projects"])
async def test_no_service_passes_for_an_operator(client: httpx.AsyncClient, service: str) -> None:
    auth = httpx.BasicAuth(service, SERVICE_SECRETS[service])
    answer = await client.post("/internal/operator-token", json={"audience": "projects"}, auth=auth)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_an_operator_speaks_for_no_tenant(client: httpx.AsyncClient, tenant_id: uuid.UUID) -> None:
    for tenant in (str(tenant_id), None):
        body = {"audience": "projects", "tenant_id": tenant}
        assert (await client.post("/internal/service-token", json=body, auth=OPERATOR)).status_code == 403
    credential = {"credential_type": "api_key", "credential": "qk_" + "A" * 43}
    assert (await client.post("/internal/token", json=credential, auth=OPERATOR)).status_code == 403


async def test_without_the_secret_there_is_no_token(client: httpx.AsyncClient) -> None:
    body = {"audience": "projects"}
    assert (await client.post("/internal/operator-token", json=body)).status_code == 401
    for secret in (SERVICE_SECRETS["gateway"], ""):
        auth = httpx.BasicAuth("operator", secret)
        assert (await client.post("/internal/operator-token", json=body, auth=auth)).status_code == 401


async def test_an_operator_reads_dead_letters_and_no_tenants_data(
    client: httpx.AsyncClient, database: Database
) -> None:
    letter_id = await stored(database)
    headers = {"Authorization": f"Bearer {await operator_token(client, 'identity')}"}
    listed = await client.get("/internal/dead-letters", headers=headers)
    assert str(letter_id) in listed.text
    assert CANARY not in listed.text
    for path in ("/v1/me", "/v1/tenants", "/v1/members", "/v1/api-keys", "/v1/sessions", "/v1/invitations"):
        assert (await client.get(path, headers=headers)).status_code == 403, path
    async with database.system() as session:
        await session.execute(delete(DeadLetter))


async def test_a_signed_in_owner_is_no_operator(owner: Browser, client: httpx.AsyncClient, gateway: Gateway) -> None:
    assert (await owner.get("/internal/dead-letters")).status_code == 403
    assert (await client.get("/internal/dead-letters")).status_code == 401
