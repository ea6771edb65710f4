"""Internal tokens: for whom they are made, what they say, and who accepts them."""

import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import httpx
import pytest
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import KeySet

from shared.auth import ALL_SCOPES, AUDIENCES, Principal, PrincipalKind, ServiceTokens, TokenVerifier
from shared.errors import Unauthenticated
from tests.services.identity.callers import Browser, Caller, Gateway
from tests.services.identity.conftest import GATEWAY_SECRET, SERVICE_SECRETS
from tests.support.serving import serve

WithKey = Callable[..., Awaitable[Caller]]


@pytest.fixture
async def http() -> Any:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_a_session_is_exchanged_for_a_token_for_each_service(owner: Browser, client: httpx.AsyncClient) -> None:
    exchanged = await owner.exchanged()
    me = await owner.me()
    assert exchanged["kind"] == "session"
    assert exchanged["user_id"] == me["user"]["id"]
    assert exchanged["tenant_id"] == me["tenant"]["id"]
    assert exchanged["credential_id"] == me["credential"]["id"]
    assert exchanged["expires_in"] == 60
    assert exchanged["project_id"] is None
    assert set(exchanged["scopes"]) == {scope.value for scope in ALL_SCOPES}
    assert set(exchanged["tokens"]) == set(AUDIENCES)
    keys = KeySet.import_key_set((await client.get("/internal/jwks")).json())
    for audience, token in exchanged["tokens"].items():
        decoded = jwt.decode(token, keys, algorithms=["Ed25519"])
        assert decoded.header["typ"] == "quarry-internal+jwt"
        assert decoded.claims["aud"] == audience
        assert decoded.claims["iss"] == "quarry-identity"
        assert decoded.claims["trole"] == "owner"
        assert decoded.claims["exp"] - decoded.claims["iat"] == 60


async def test_an_api_key_is_exchanged_for_tokens_within_its_limits(owner: Browser, with_key: WithKey) -> None:
    project = str(uuid.uuid4())
    key = await with_key(owner, ["search", "documents:read"], project_id=project)
    exchanged = await key.exchanged()
    assert exchanged["kind"] == "api_key"
    assert exchanged["csrf_token"] is None
    assert exchanged["scopes"] == ["documents:read", "search"]
    assert exchanged["project_id"] == project
    assert exchanged["user_id"] == (await owner.me())["user"]["id"]
    assert exchanged["tenant_id"] == (await owner.me())["tenant"]["id"]


@pytest.mark.parametrize("kind", ["session", "api_key", "bearer"])
async def test_an_unknown_credential_is_exchanged_for_nothing(gateway: Gateway, kind: str) -> None:
    answer = await gateway.exchange(kind, "qk_" + "A" * 43)
    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthenticated"


async def test_one_kind_of_credential_does_not_pass_for_another(
    owner: Browser, with_key: WithKey, gateway: Gateway
) -> None:
    key = await with_key(owner, ["search"])
    assert (await gateway.exchange("session", key.credential)).status_code == 401
    assert (await gateway.exchange("api_key", owner.credential)).status_code == 401
    assert (await gateway.exchange("bearer", owner.credential)).status_code == 401


async def test_only_the_gateway_exchanges_credentials(owner: Browser, client: httpx.AsyncClient) -> None:
    neighbour = Gateway(client, SERVICE_SECRETS["projects"])
    assert (await neighbour.exchange("session", owner.credential, service="projects")).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer " + GATEWAY_SECRET},
        {"Authorization": "Basic"},
        {"Authorization": "Basic not base64!"},
        {"Authorization": "Basic /////w=="},
        {"Authorization": httpx.BasicAuth("gateway", "wrong")._auth_header},
        {"Authorization": httpx.BasicAuth("gateway", "")._auth_header},
        {"Authorization": httpx.BasicAuth("nobody", "")._auth_header},
        {"Authorization": httpx.BasicAuth("nobody", GATEWAY_SECRET)._auth_header},
        {"Authorization": httpx.BasicAuth("projects", GATEWAY_SECRET)._auth_header},
        {"Authorization": httpx.BasicAuth("gateway", GATEWAY_SECRET)._auth_header.replace("Basic", "Digest")},
    ],
)
@pytest.mark.parametrize("path", ["/internal/token", "/internal/service-token"])
async def test_a_service_must_prove_itself(client: httpx.AsyncClient, path: str, headers: dict[str, str]) -> None:
    assert (await client.post(path, headers=headers, json={})).status_code == 401


async def test_the_published_keys_are_public(client: httpx.AsyncClient) -> None:
    keys = (await client.get("/internal/jwks")).json()["keys"]
    assert keys
    for key in keys:
        assert set(key) == {"kty", "crv", "x", "kid", "use", "alg"}


async def test_other_services_verify_the_tokens_over_http(
    app: FastAPI, owner: Browser, http: aiohttp.ClientSession
) -> None:
    """With the very code they use, against the running service."""
    tokens = (await owner.exchanged())["tokens"]
    async with _served(app) as url:
        verifier = TokenVerifier("projects", url, http)
        principal = await verifier.verify(tokens["projects"])
        assert principal.kind is PrincipalKind.SESSION
        assert principal.tenant_role == "owner"
        with pytest.raises(Unauthenticated):
            await verifier.verify(tokens["indexing"])


async def test_a_service_speaks_for_one_tenant(app: FastAPI, http: aiohttp.ClientSession, tenant_id: uuid.UUID) -> None:
    async with _served(app) as url:
        token = await ServiceTokens("projects", SERVICE_SECRETS["projects"], url, http).token("indexing", tenant_id)
        principal = await TokenVerifier("indexing", url, http).verify(token)
    assert principal == Principal(
        kind=PrincipalKind.SERVICE,
        subject="service:projects",
        user_id=None,
        tenant_id=tenant_id,
        tenant_role="admin",
        limit=ALL_SCOPES,
    )


def _served(app: FastAPI) -> Any:
    """The running application over HTTP, without a second lifespan."""

    async def without_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})

    return serve(without_lifespan)


async def test_a_service_is_nobody_in_particular(gateway: Gateway, client: httpx.AsyncClient, owner: Browser) -> None:
    tenant = (await owner.me())["tenant"]["id"]
    answer = await client.post(
        "/internal/service-token",
        json={"audience": "identity", "tenant_id": tenant},
        auth=httpx.BasicAuth("projects", SERVICE_SECRETS["projects"]),
    )
    headers = {"Authorization": f"Bearer {answer.json()['token']}"}
    assert answer.json()["expires_in"] == 60
    assert len((await client.get("/v1/members", headers=headers)).json()["items"]) == 1
    for method, path, body in (
        ("GET", "/v1/me", None),
        ("GET", "/v1/tenants", None),
        ("GET", "/v1/sessions", None),
        ("POST", "/v1/tenants", {"name": "x"}),
        ("POST", "/v1/api-keys", {"name": "x", "scopes": ["search"]}),
        ("POST", "/v1/invitations", {"email": "a@example.test"}),
    ):
        assert (await client.request(method, path, headers=headers, json=body)).status_code == 403, path


@pytest.mark.parametrize("audience", ["projects", "indexing", "notifier"])
async def test_identity_refuses_tokens_for_others(owner: Browser, client: httpx.AsyncClient, audience: str) -> None:
    token = (await owner.exchanged())["tokens"][audience]
    answer = await client.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


async def test_identity_refuses_tokens_of_unknown_keys(client: httpx.AsyncClient, tokens: Any) -> None:
    headers = tokens.headers("identity", tenant_id=uuid.uuid4())
    assert (await client.get("/v1/me", headers=headers)).status_code == 401


async def test_an_exchange_is_quick(owner: Browser, with_key: WithKey) -> None:
    """Aim: under 5 ms; a machine shared with others gets ten times that before this fails."""
    key = await with_key(owner, ["search"])
    for caller in (owner, key):
        times = []
        for _ in range(30):
            started = time.perf_counter()
            await caller.exchanged()
            times.append(time.perf_counter() - started)
        assert min(times) < 0.05
        print(f"exchange of {caller.kind}: best {min(times) * 1000:.1f} ms, median {sorted(times)[15] * 1000:.1f} ms")
