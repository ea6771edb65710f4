"""Internal tokens: for whom they are made, what they say, and who accepts them."""

import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import aiohttp
import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from infra.local.stack import Stack
from shared.auth import ALL_SCOPES, AUDIENCES, Principal, PrincipalKind, ServiceTokens, TokenVerifier
from shared.errors import Unauthenticated
from shared.service_permissions import Operation, operations_of
from tests.services.identity.admin import as_admin
from tests.services.identity.callers import Browser, Caller, Gateway
from tests.services.identity.conftest import GATEWAY_SECRET, SERVICE_SECRETS, as_projects
from tests.support.identity import unverified
from tests.support.serving import StartedApp, serve

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
    app: StartedApp, owner: Browser, http: aiohttp.ClientSession
) -> None:
    """With the very code they use, against the running service."""
    tokens = (await owner.exchanged())["tokens"]
    async with serve(app) as url:
        verifier = TokenVerifier("projects", url, http)
        principal = await verifier.verify(tokens["projects"])
        assert principal.kind is PrincipalKind.SESSION
        assert principal.tenant_role == "owner"
        with pytest.raises(Unauthenticated):
            await verifier.verify(tokens["indexing"])


async def test_a_service_speaks_for_one_tenant(
    app: StartedApp, http: aiohttp.ClientSession, tenant_id: uuid.UUID
) -> None:
    async with serve(app) as url:
        service = ServiceTokens("notifier", SERVICE_SECRETS["notifier"], url, http)
        principal = await TokenVerifier("indexing", url, http).verify(await service.token("indexing", tenant_id))
    assert principal == Principal(
        kind=PrincipalKind.SERVICE,
        subject="service:notifier",
        user_id=None,
        tenant_id=tenant_id,
        tenant_role=None,
        limit=frozenset(),
        operations=frozenset({Operation.READ_PROGRESS, Operation.FOLLOW_RUNS}),
    )


@pytest.mark.parametrize("caller", ["gateway", "projects", "notifier"])
@pytest.mark.parametrize("audience", AUDIENCES)
async def test_a_service_gets_no_token_for_what_it_has_nothing_to_ask(
    client: httpx.AsyncClient, tenant_id: uuid.UUID, caller: str, audience: str
) -> None:
    for about in (str(tenant_id), None):
        answer = await client.post(
            "/internal/service-token",
            json={"audience": audience, "tenant_id": about},
            auth=httpx.BasicAuth(caller, SERVICE_SECRETS[caller]),
        )
        expected = operations_of(caller, audience, installation_wide=about is None)
        assert answer.status_code == (200 if expected else 403)


async def test_a_service_says_what_its_token_is_about(client: httpx.AsyncClient) -> None:
    """A tenant that is missing is not the same as none."""
    auth = httpx.BasicAuth("projects", SERVICE_SECRETS["projects"])
    answer = await client.post("/internal/service-token", json={"audience": "identity"}, auth=auth)
    assert answer.status_code == 422


async def test_a_service_reaches_no_route_of_clients(client: httpx.AsyncClient, owner: Browser) -> None:
    me = await owner.me()
    answer = await client.post(
        "/internal/service-token",
        json={"audience": "identity", "tenant_id": me["tenant"]["id"]},
        auth=httpx.BasicAuth("projects", SERVICE_SECRETS["projects"]),
    )
    headers = {"Authorization": f"Bearer {answer.json()['token']}"}
    assert answer.json()["expires_in"] == 60
    member = await client.get(f"/internal/members/{me['user']['id']}", headers=headers)
    assert member.json() == {"user_id": me["user"]["id"], "role": "owner", "revision": 1}
    assert (await client.get(f"/internal/members/{uuid.uuid4()}", headers=headers)).status_code == 404
    for method, path, body in (
        ("GET", "/v1/me", None),
        ("GET", "/v1/members", None),
        ("GET", "/v1/tenants", None),
        ("GET", "/v1/sessions", None),
        ("POST", "/v1/tenants", {"name": "x"}),
        ("POST", "/v1/api-keys", {"name": "x", "scopes": ["search"]}),
        ("POST", "/v1/invitations", {"email": "a@example.test"}),
    ):
        assert (await client.request(method, path, headers=headers, json=body)).status_code == 403, path
    assert (await owner.get(f"/internal/members/{me['user']['id']}")).status_code == 403


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


async def test_a_token_ends_no_later_than_the_key_it_is_given_for(
    owner: Browser, with_key: WithKey, stack: Stack
) -> None:
    key = await with_key(owner, ["search"])
    until = datetime.now(UTC) + timedelta(seconds=7)
    key_id = uuid.UUID((await key.exchanged())["credential_id"])
    await as_admin(stack, "UPDATE identity.api_keys SET expires_at = $2 WHERE id = $1", key_id, until)
    exchanged = await key.exchanged()
    assert 5 < exchanged["expires_in"] < 7
    for token in exchanged["tokens"].values():
        claims = unverified(token)
        assert claims["exp"] <= until.timestamp()
        assert claims["cexp"] == pytest.approx(until.timestamp(), abs=1e-3)


async def test_a_token_ends_no_later_than_the_session_it_is_given_for(owner: Browser, stack: Stack) -> None:
    until = datetime.now(UTC) + timedelta(seconds=7)
    session_id = uuid.UUID((await owner.exchanged())["credential_id"])
    await as_admin(stack, "UPDATE identity.sessions SET expires_at = $2 WHERE id = $1", session_id, until)
    exchanged = await owner.exchanged()
    assert 5 < exchanged["expires_in"] < 7
    assert all(unverified(token)["exp"] <= until.timestamp() for token in exchanged["tokens"].values())


async def authority(client: httpx.AsyncClient, exchanged: dict[str, Any]) -> tuple[bool, dict[str, Any] | None]:
    """What another service is told about the credential."""
    answer = await client.post(
        "/internal/authority",
        json={"kind": exchanged["kind"], "credential_id": exchanged["credential_id"]},
        headers=await as_projects(client, exchanged["tenant_id"]),
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found["counts"], found["claims"]


async def test_an_expired_key_allows_nothing_any_more(
    owner: Browser, with_key: WithKey, client: httpx.AsyncClient, stack: Stack
) -> None:
    exchanged = await (await with_key(owner, ["search"])).exchanged()
    key_id = uuid.UUID(exchanged["credential_id"])
    await as_admin(stack, "UPDATE identity.api_keys SET expires_at = now() WHERE id = $1", key_id)
    assert await authority(client, exchanged) == (False, None)


async def test_an_expired_session_allows_nothing_any_more(
    owner: Browser, client: httpx.AsyncClient, stack: Stack
) -> None:
    exchanged = await owner.exchanged()
    session_id = uuid.UUID(exchanged["credential_id"])
    await as_admin(stack, "UPDATE identity.sessions SET expires_at = now() WHERE id = $1", session_id)
    assert await authority(client, exchanged) == (False, None)


async def test_what_a_credential_allows_now_is_told(
    owner: Browser, join: Callable[..., Awaitable[Browser]], with_key: WithKey, client: httpx.AsyncClient
) -> None:
    """Asked by a service whose work outlives the token it began with."""
    now = partial(authority, client)
    admin = await join(owner, "admin")
    by_session = await admin.exchanged()
    by_key = await (await with_key(admin, ["documents:write"])).exchanged()
    for exchanged in (by_session, by_key):
        counts, claims = await now(exchanged)
        assert counts and claims is not None
        assert (claims["trole"], claims["tid"], claims["mno"]) == ("admin", exchanged["tenant_id"], 1)
    user = (await admin.me())["user"]["id"]
    await owner.patch(f"/v1/members/{user}", json={"role": "member"})
    _, claims = await now(by_key)
    assert claims is not None and claims["trole"] == "member"
    await owner.delete(f"/v1/members/{user}")
    assert await now(by_key) == (False, None)
    assert await now(by_session) == (True, None)
    await admin.delete(f"/v1/sessions/{by_session['credential_id']}")
    for exchanged in (by_session, {**by_session, "credential_id": str(uuid.uuid4())}):
        assert await now(exchanged) == (False, None)


async def test_only_services_ask_what_a_credential_allows(owner: Browser, client: httpx.AsyncClient) -> None:
    exchanged = await owner.exchanged()
    question = {"kind": "session", "credential_id": exchanged["credential_id"]}
    assert (await owner.post("/internal/authority", json=question)).status_code == 403
    assert (await client.post("/internal/authority", json=question)).status_code == 401
