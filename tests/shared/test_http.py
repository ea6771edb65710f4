import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from sqlalchemy import select, text

from shared import service
from shared.access import KnownProject
from shared.errors import Conflict, Unavailable
from shared.handlers import Handler
from shared.http import CurrentPrincipal, Input
from shared.relay import RelayState
from shared.service import Runtime
from shared.sessions import SystemSession, TenantSession
from tests.shared.conftest import SampleSettings
from tests.support.identity import IdentityDouble
from tests.support.serving import in_process

router = APIRouter()


class Thing(Input):
    name: str


@router.get("/known")
async def known(session: TenantSession) -> list[uuid.UUID]:
    return list(await session.scalars(select(KnownProject.project_id)))


@router.put("/known/{project_id}")
async def learn(project_id: uuid.UUID, session: TenantSession) -> None:
    session.add(KnownProject(project_id=project_id, active=True, sequence=1))


@router.put("/conflict/{project_id}")
async def conflict(project_id: uuid.UUID, session: TenantSession) -> None:
    session.add(KnownProject(project_id=project_id, active=True, sequence=1))
    await session.flush()
    raise Conflict("Already there.")


@router.get("/whoami")
async def whoami(principal: CurrentPrincipal) -> str:
    return principal.subject


@router.get("/streams")
async def streams(session: SystemSession) -> list[str]:
    return list(await session.scalars(select(RelayState.stream)))


@router.post("/things")
async def make(thing: Thing) -> str:
    return thing.name


@router.get("/away")
async def away() -> None:
    raise Unavailable(retry_after=3)


@router.get("/crash")
async def crash() -> None:
    raise ZeroDivisionError("the public must not read this")


@router.get("/bad-sql")
async def bad_sql(session: TenantSession) -> None:
    await session.execute(text("SELECT 1/0").execution_options(tenant_guard="fails on purpose"))


@router.get("/cancelled-statement")
async def cancelled_statement(session: TenantSession) -> None:
    slow = text("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(5)")
    await session.execute(slow.execution_options(tenant_guard="fails on purpose"))


@asynccontextmanager
async def no_resources(_app: FastAPI, _runtime: Runtime) -> AsyncIterator[Sequence[Handler[Any]]]:
    yield ()


def create_app() -> FastAPI:
    return service.create_app(SampleSettings.load(), routers=[router], resources=no_resources)


@pytest.fixture
async def client(
    service_environment: Callable[[str], Awaitable[dict[str, str]]],
) -> AsyncIterator[httpx.AsyncClient]:
    async with in_process(create_app, await service_environment("notifier")) as (_, client):
        yield client


def owner(tokens: IdentityDouble, tenant_id: uuid.UUID) -> dict[str, str]:
    return tokens.headers("notifier", tenant_id=tenant_id)


async def test_a_change_is_committed_before_its_answer(
    client: httpx.AsyncClient, tokens: IdentityDouble, tenant_id: uuid.UUID
) -> None:
    project_id = uuid.uuid4()
    headers = owner(tokens, tenant_id)
    assert (await client.put(f"/known/{project_id}", headers=headers)).status_code == 200
    assert (await client.get("/known", headers=headers)).json() == [str(project_id)]
    assert (await client.get("/known", headers=owner(tokens, uuid.uuid4()))).json() == []


async def test_an_error_rolls_back(client: httpx.AsyncClient, tokens: IdentityDouble, tenant_id: uuid.UUID) -> None:
    headers = owner(tokens, tenant_id)
    answer = await client.put(f"/conflict/{uuid.uuid4()}", headers=headers)
    assert (answer.status_code, answer.json()["detail"]) == (409, "Already there.")
    assert (await client.get("/known", headers=headers)).json() == []


async def test_every_error_is_a_problem_document(client: httpx.AsyncClient) -> None:
    answer = await client.get("/nothing/here", headers={"X-Request-ID": "abc-123"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == "abc-123"
    problem = answer.json()
    assert (problem["code"], problem["status"], problem["request_id"]) == ("not_found", 404, "abc-123")
    assert (problem["instance"], problem["errors"]) == ("/nothing/here", [])


@pytest.mark.parametrize("forged", ["", "x" * 65, "two words", "line\tbreak"])
async def test_an_unsafe_request_id_is_replaced(client: httpx.AsyncClient, forged: str) -> None:
    answer = await client.get("/nothing", headers={"X-Request-ID": forged})
    assert answer.headers["x-request-id"] not in ("", forged)


async def test_a_wrong_method_is_a_problem_document(client: httpx.AsyncClient) -> None:
    assert (await client.post("/away")).json()["code"] == "method_not_allowed"


async def test_a_body_with_unknown_fields_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/things", json={"name": "a", "tenant_id": str(uuid.uuid4())})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert answer.json()["errors"][0]["field"] == "body.tenant_id"
    assert (await client.post("/things", json={"name": " a "})).json() == "a"


async def test_an_outage_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    answer = await client.get("/away")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")


async def test_a_crash_tells_the_client_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.get("/crash")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "public must not" not in answer.text


async def test_a_defect_in_sql_is_500_and_a_cancelled_statement_503(
    client: httpx.AsyncClient, tokens: IdentityDouble, tenant_id: uuid.UUID
) -> None:
    headers = owner(tokens, tenant_id)
    assert (await client.get("/bad-sql", headers=headers)).status_code == 500
    assert (await client.get("/cancelled-statement", headers=headers)).status_code == 503


@pytest.mark.parametrize("header", ["", "Basic abc", "Bearer", "Bearer x.y.z"])
async def test_without_a_valid_token_the_answer_is_401(client: httpx.AsyncClient, header: str) -> None:
    answer = await client.get("/known", headers={"Authorization": header})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_user_without_an_active_tenant_is_told_so(client: httpx.AsyncClient, tokens: IdentityDouble) -> None:
    headers = tokens.headers("notifier", tenant_id=None, tenant_role=None)
    assert (await client.get("/whoami", headers=headers)).status_code == 200
    assert (await client.get("/known", headers=headers)).status_code == 403


async def test_health_and_readiness_need_no_credential(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok", "checks": {}}
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]) == (200, {"postgres": "ok", "redis": "ok"})
    assert (await client.get("/streams")).status_code == 200


async def test_a_failing_check_turns_readiness_red(
    service_environment: Callable[[str], Awaitable[dict[str, str]]],
) -> None:
    async with in_process(create_app, await service_environment("notifier")) as (app, client):

        async def stuck() -> None:
            raise RuntimeError("stuck")

        async def hanging() -> None:
            await asyncio.Event().wait()

        app.state.runtime.checks |= {"a": stuck, "b": hanging}
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["checks"]["a"] == "RuntimeError: stuck"
        assert answer.json()["checks"]["b"].startswith("TimeoutError")


async def test_more_concurrent_requests_than_connections_are_served(
    client: httpx.AsyncClient, tokens: IdentityDouble, tenant_id: uuid.UUID
) -> None:
    headers = owner(tokens, tenant_id)
    answers = await asyncio.gather(*(client.get("/known", headers=headers) for _ in range(24)))
    assert {answer.status_code for answer in answers} == {200}


async def test_the_secret_in_an_invitations_path_stays_out_of_the_log(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for misspelt in ("/accept", "/accept/", "/Accept", "/", ""):
        await client.post(f"/v1/invitations/planted-secret{misspelt}")
        assert f"/v1/invitations/***{misspelt}" in caplog.text
    await client.delete(f"/v1/invitations/{uuid.UUID(int=7)}")
    assert f"/v1/invitations/{uuid.UUID(int=7)}" in caplog.text
    assert "planted-secret" not in caplog.text
