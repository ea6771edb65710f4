"""Dead letters over HTTP: who may, and what they get. On the projects service, as it is deployed."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import delete

from services.projects.main import create_app
from shared.auth import PrincipalKind
from shared.dead_letters import DeadLetter
from shared.service_permissions import Operation
from shared.tenancy import Database
from tests.shared.events import NoteWritten
from tests.support.identity import IdentityDouble
from tests.support.letters import CANARY, envelope_of, letter_of, stored
from tests.support.polling import eventually
from tests.support.serving import StartedApp, in_process
from tests.support.stacks import EnvironmentOf

LETTERS = "/internal/dead-letters"
ROUTES = [
    ("GET", LETTERS),
    ("GET", f"{LETTERS}/{{id}}"),
    ("POST", f"{LETTERS}/{{id}}/redrive"),
    ("POST", f"{LETTERS}/redrive"),
]


@pytest.fixture(scope="module")
async def running(service_environment: EnvironmentOf) -> AsyncIterator[tuple[StartedApp, httpx.AsyncClient]]:
    async with in_process(create_app, await service_environment("projects")) as (app, client):
        yield app, client


@pytest.fixture
def client(running: tuple[StartedApp, httpx.AsyncClient]) -> httpx.AsyncClient:
    return running[1]


@pytest.fixture
async def projects(running: tuple[StartedApp, httpx.AsyncClient]) -> Database:
    """The database of the service that runs."""
    found = running[0].database
    async with found.system() as session:
        await session.execute(delete(DeadLetter))
    return found


@pytest.fixture
def operator(tokens: IdentityDouble) -> dict[str, str]:
    return as_operator(tokens, "projects")


def as_operator(tokens: IdentityDouble, audience: str, **claims: Any) -> dict[str, str]:
    kind = PrincipalKind.SERVICE
    return tokens.headers(
        audience,
        tenant_id=None,
        kind=kind,
        operations={Operation.MANAGE_DEAD_LETTERS},
        **{"sub": "operator", **claims},
    )


async def call(client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    body: dict[str, str] | None = {} if method == "POST" and path.endswith("/dead-letters/redrive") else None
    return await client.request(method, path.format(id=uuid.uuid4()), headers=headers, json=body)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_a_token_nobody_gets_in(client: httpx.AsyncClient, method: str, path: str) -> None:
    assert (await call(client, method, path, {})).status_code == 401


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_no_client_gets_in_whatever_its_role(
    client: httpx.AsyncClient, tokens: IdentityDouble, tenant_id: uuid.UUID, method: str, path: str
) -> None:
    for kind in (PrincipalKind.SESSION, PrincipalKind.API_KEY):
        for claims in ({}, {"sub": "operator"}, {"sub": "service:projects"}):
            headers = tokens.headers("projects", tenant_id=tenant_id, tenant_role="owner", kind=kind, **claims)
            assert (await call(client, method, path, headers)).status_code == 403, (kind, claims)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_another_operation_or_another_audience_does_not_get_in(
    client: httpx.AsyncClient, tokens: IdentityDouble, tenant_id: uuid.UUID, method: str, path: str
) -> None:
    others = set(Operation) - {Operation.MANAGE_DEAD_LETTERS}
    for subject in ("service:indexing", "service:projects", "operator"):
        neighbour = tokens.headers(
            "projects", tenant_id=tenant_id, kind=PrincipalKind.SERVICE, operations=others, sub=subject
        )
        assert (await call(client, method, path, neighbour)).status_code == 403
    assert (await call(client, method, path, as_operator(tokens, "indexing"))).status_code == 401


async def test_an_operator_gets_in(client: httpx.AsyncClient, operator: dict[str, str]) -> None:
    answers = [(await call(client, method, path, operator)).status_code for method, path in ROUTES]
    assert answers == [200, 404, 404, 202]


async def test_an_operator_reaches_no_tenants_data(client: httpx.AsyncClient, operator: dict[str, str]) -> None:
    assert (await client.get("/v1/projects", headers=operator)).status_code == 403
    assert (await client.get(f"/internal/projects/{uuid.uuid4()}/access", headers=operator)).status_code == 403


async def test_the_list_pages_filters_and_tells_no_payload(
    client: httpx.AsyncClient, projects: Database, operator: dict[str, str], tenant_id: uuid.UUID
) -> None:
    envelope = envelope_of(NoteWritten(note_id=uuid.uuid4()), tenant_id)
    ids = [str(await stored(projects, envelope, handler="tests.handler")) for _ in range(3)]
    undecodable = str(await stored(projects))
    first = (await client.get(LETTERS, params={"limit": 2}, headers=operator)).json()
    rest = await client.get(LETTERS, params={"limit": 2, "cursor": first["next_cursor"]}, headers=operator)
    found = [item["id"] for item in (*first["items"], *rest.json()["items"])]
    assert found == [undecodable, *reversed(ids)]
    assert rest.json()["next_cursor"] is None
    assert CANARY not in rest.text
    assert first["items"][1]["error"] == "ValueError"
    for filters, expected in (
        ({"handler": "decode"}, 1),
        ({"event_type": NoteWritten.type}, 3),
        ({"event_type": "other.v1"}, 0),
    ):
        answer = await client.get(LETTERS, params=filters, headers=operator)
        assert len(answer.json()["items"]) == expected, filters


async def test_one_is_shown_with_its_evidence(
    client: httpx.AsyncClient, projects: Database, operator: dict[str, str], tenant_id: uuid.UUID
) -> None:
    envelope = envelope_of(NoteWritten(note_id=uuid.uuid4()), tenant_id)
    letter_id = await stored(projects, envelope, handler="tests.handler")
    shown = (await client.get(f"{LETTERS}/{letter_id}", headers=operator)).json()
    assert (shown["payload"], shown["state"]) == (envelope.to_json().decode(), "open")
    assert CANARY in shown["reason"]


async def test_a_redrive_over_http_is_performed_by_the_service(
    client: httpx.AsyncClient, projects: Database, operator: dict[str, str]
) -> None:
    one, other = [await stored(projects) for _ in range(2)]
    asked = await client.post(f"{LETTERS}/{one}/redrive", headers=operator)
    assert (asked.status_code, asked.json()["state"]) == (202, "waiting")
    await eventually(lambda: _redrives(projects, one))
    assert (await letter_of(projects, other)).redrives == 0
    answer = await client.post(f"{LETTERS}/redrive", headers=operator, json={"handler": "decode"})
    assert (answer.status_code, answer.json()) == (202, {"requested": 2})
    await eventually(lambda: _redrives(projects, other))
    assert (await client.get(f"{LETTERS}/{one}", headers=operator)).json()["last_reason"]


async def test_a_misspelt_filter_redrives_nothing(
    client: httpx.AsyncClient, projects: Database, operator: dict[str, str]
) -> None:
    letter_id = await stored(projects)
    answer = await client.post(f"{LETTERS}/redrive", headers=operator, json={"handlr": "decode"})
    assert answer.status_code == 422
    assert (await client.post(f"{LETTERS}/redrive", headers=operator)).status_code == 422
    assert (await letter_of(projects, letter_id)).state == "open"


async def test_nothing_for_operators_is_in_the_public_document(running: tuple[StartedApp, httpx.AsyncClient]) -> None:
    paths = running[0].app.openapi()["paths"]
    assert paths
    assert not [path for path in paths if path.startswith(("/internal", "/metrics"))]


async def _redrives(database: Database, letter_id: uuid.UUID) -> int:
    return (await letter_of(database, letter_id)).redrives
