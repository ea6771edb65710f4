"""Services among themselves: each gets in where `shared.service_permissions` says, and nowhere else."""

import base64
import itertools
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import pytest
from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from infra.local.stack import Stack
from services.gateway import routes
from services.identity.main import ROUTERS as IDENTITY
from services.indexing.main import ROUTERS as INDEXING
from services.notifier.streams.router import router as streams
from services.projects.main import ROUTERS as PROJECTS
from shared import operator_api
from shared.auth import AUDIENCES
from shared.invalidations.router import router as invalidations
from shared.service_permissions import INSTALLATION_WIDE, OPERATOR, SERVICE_ACCESS, Operation, operations_of
from tests.isolation.conftest import Victim
from tests.isolation.endpoints import Document, operations
from tests.isolation.internals import internal_tokens
from tests.isolation.matrix import path_of, send
from tests.isolation.people import PLAIN

ROUTERS: Final[Mapping[str, Sequence[APIRouter]]] = {
    "identity": (*IDENTITY, invalidations, operator_api.router),
    "projects": (*PROJECTS, invalidations, operator_api.router),
    "indexing": (*INDEXING, operator_api.router),
    "notifier": (streams, operator_api.router),
}
# Where a service proves itself by its secret to get a token, and the keys those are verified with, which are public.
WITHOUT_TOKEN: Final = frozenset(
    {
        "/internal/token",
        "/internal/delegated-token",
        "/internal/service-token",
        "/internal/operator-token",
        "/internal/jwks",
    }
)
CALLERS: Final = tuple(SERVICE_ACCESS)
PAIRS: Final = tuple(itertools.product(CALLERS, AUDIENCES))
_SUCCESS_OR_MISSING: Final = frozenset({200, 202, 404, 422})


@dataclass(frozen=True, slots=True)
class Internal:
    """An internal route and the operation it asks for."""

    audience: str
    method: str
    path: str
    operation: Operation | None

    def filled(self, ids: Mapping[str, str]) -> str:
        values = {"letter_id": str(uuid.uuid4()), "user_id": str(uuid.uuid4()), **ids}
        return self.path.format(**values)


def _routes(audience: str) -> Iterator[APIRoute]:
    for router in ROUTERS[audience]:
        yield from (route for route in router.routes if isinstance(route, APIRoute))


def _required(dependant: Dependant) -> set[Operation]:
    own: Operation | None = getattr(dependant.call, "operation", None)
    inner = (operation for each in dependant.dependencies for operation in _required(each))
    return {*inner, *(() if own is None else (own,))}


def _internal(audience: str) -> Iterator[Internal]:
    for route in _routes(audience):
        if route.path.startswith("/internal"):
            required = _required(route.dependant)
            for method in sorted(route.methods or ()):
                yield Internal(audience, method, route.path, next(iter(required), None))


INTERNAL: Final = [route for audience in AUDIENCES for route in _internal(audience)]
WITH_TOKEN: Final = [route for route in INTERNAL if route.path not in WITHOUT_TOKEN]


def test_every_internal_route_names_one_operation() -> None:
    assert [route for route in WITH_TOKEN if route.operation is None] == []
    for audience in AUDIENCES:
        for route in _routes(audience):
            wanted = 1 if route.path.startswith("/internal") and route.path not in WITHOUT_TOKEN else 0
            assert len(_required(route.dependant)) == wanted, route.path


def test_nothing_is_granted_that_no_route_asks_for() -> None:
    asked = {(route.audience, route.operation) for route in WITH_TOKEN}
    granted = {
        (audience, operation)
        for table in SERVICE_ACCESS.values()
        for audience, operations in table.items()
        for operation in operations
    }
    assert granted == asked


@pytest.fixture(scope="session")
async def services(whole: Stack) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """Clients of the services themselves, past the gateway."""
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{whole.ports[name]}", timeout=60, verify=PLAIN)
            )
            for name in AUDIENCES
        }


def _secret(stack: Stack, caller: str) -> str:
    secrets = orjson.loads(Path(stack.environment("identity")["QUARRY_IDENTITY_SERVICE_SECRETS_FILE"]).read_bytes())
    return str(secrets[caller])


async def _asked_for(
    stack: Stack, identity: httpx.AsyncClient, caller: str, audience: str, tenant_id: str | None
) -> httpx.Response:
    auth = httpx.BasicAuth(caller, _secret(stack, caller))
    if caller == OPERATOR and tenant_id is None:
        return await identity.post("/internal/operator-token", json={"audience": audience}, auth=auth)
    body = {"audience": audience, "tenant_id": tenant_id}
    return await identity.post("/internal/service-token", json=body, auth=auth)


async def _token(
    stack: Stack, identity: httpx.AsyncClient, caller: str, audience: str, tenant_id: str | None
) -> str | None:
    """A token as identity gives it, or None where it refuses."""
    answer = await _asked_for(stack, identity, caller, audience, tenant_id)
    return str(answer.json()["token"]) if answer.status_code == 200 else None


def _claims(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    claims: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


@pytest.mark.parametrize(("caller", "audience"), PAIRS)
async def test_a_token_names_what_the_table_gives_and_no_more(
    whole: Stack, services: dict[str, httpx.AsyncClient], victim: Victim, caller: str, audience: str
) -> None:
    for tenant_id in (victim.ids["tenant_id"], None):
        expected = operations_of(caller, audience, installation_wide=tenant_id is None)
        answer = await _asked_for(whole, services["identity"], caller, audience, tenant_id)
        assert answer.status_code == (200 if expected else 403), answer.text
        if expected:
            claims = _claims(answer.json()["token"])
            assert set(claims["scope"].split()) == expected
            assert {"uid", "trole", "cid", "pid"}.isdisjoint(claims)
            assert claims.get("tid") == tenant_id


@pytest.mark.parametrize(("caller", "audience"), PAIRS)
async def test_a_service_reaches_what_its_token_names_and_nothing_else(
    whole: Stack,
    services: dict[str, httpx.AsyncClient],
    victim: Victim,
    document: Document,
    caller: str,
    audience: str,
) -> None:
    """Every internal route of the audience, and every public one: those are for nobody but clients."""
    tried = 0
    for tenant_id in (victim.ids["tenant_id"], None):
        token = await _token(whole, services["identity"], caller, audience, tenant_id)
        if token is None:
            continue
        headers = {"Authorization": f"Bearer {token}"}
        allowed = operations_of(caller, audience, installation_wide=tenant_id is None)
        for route in WITH_TOKEN:
            if route.audience == audience:
                answer = await _call(services[audience], route, headers, victim)
                expected = _SUCCESS_OR_MISSING if route.operation in allowed else {403}
                assert answer.status_code in expected, (route, answer.text)
                tried += 1
        async with httpx.AsyncClient(
            base_url=services[audience].base_url, headers=headers, timeout=60, verify=PLAIN
        ) as client:
            for operation in operations(document):
                if not operation.path.startswith("/v1/"):
                    continue
                path = path_of(operation, {**victim.ids, "token": "A" * 43})
                matched = routes.match(operation.method, path)
                if matched is None or matched.upstream != audience:
                    continue
                answer = await send(client, operation, {**victim.ids, "token": "A" * 43})
                assert answer.status_code == 403, (operation.key, answer.text)
                tried += 1
    assert tried or not SERVICE_ACCESS[caller].get(audience)


@pytest.mark.parametrize("route", WITH_TOKEN, ids=lambda route: f"{route.method} {route.audience}{route.path}")
async def test_no_client_gets_in_by_an_internal_route(
    whole: Stack, services: dict[str, httpx.AsyncClient], victim: Victim, route: Internal
) -> None:
    """Not the owner of the tenant either, past the gateway and with the very token the gateway would send."""
    key = victim.client.headers["Authorization"].removeprefix("Bearer ")
    token = (await internal_tokens(whole, key))[route.audience]
    refused = await _call(services[route.audience], route, {"Authorization": f"Bearer {token}"}, victim)
    assert refused.status_code == 403, refused.text
    assert (await _call(services[route.audience], route, {}, victim)).status_code == 401


def test_what_is_about_the_installation_needs_a_token_of_no_tenant() -> None:
    for caller, audience in PAIRS:
        of_tenant = operations_of(caller, audience, installation_wide=False)
        of_none = operations_of(caller, audience, installation_wide=True)
        assert of_tenant.isdisjoint(INSTALLATION_WIDE)
        assert of_none <= INSTALLATION_WIDE


async def _call(
    client: httpx.AsyncClient, route: Internal, headers: Mapping[str, str], victim: Victim
) -> httpx.Response:
    body: dict[str, str] | None = {} if route.method == "POST" else None
    return await client.request(route.method, route.filled(victim.ids), headers=dict(headers), json=body)
