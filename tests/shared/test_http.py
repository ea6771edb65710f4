import asyncio
import gzip
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Query, Response
from sqlalchemy import select, text

from shared import service
from shared.auth import PrincipalKind
from shared.current_principal import CurrentPrincipal
from shared.errors import Conflict, QuotaExceeded, Unavailable
from shared.json_bodies import MAX_DEPTH, MAX_VALUES
from shared.problems import MAX_SHOWN_ERRORS
from shared.project_access import KnownProject
from shared.relay import RelayState
from shared.request_bodies import Input, Moment
from shared.route_introspection import JSON_BYTES, AnyQuery
from shared.service import Runtime, Started
from shared.session_dependencies import SystemSession, TenantSession
from tests.shared.conftest import SampleSettings
from tests.support.identity import IdentityDouble
from tests.support.serving import in_process

router = APIRouter()


class Thing(Input):
    name: str


class TimedThing(Input):
    at: Moment


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


@router.get("/quota")
async def quota() -> None:
    raise QuotaExceeded("things_per_tenant", limit=3, used=3)


@router.get("/whoami")
async def whoami(principal: CurrentPrincipal) -> str:
    return principal.subject


@router.get("/internal/whoami")
async def whoami_inside(principal: CurrentPrincipal) -> str:
    return principal.subject


@router.get("/streams")
async def streams(session: SystemSession) -> list[str]:
    return list(await session.scalars(select(RelayState.stream)))


@router.post("/things")
async def make(thing: Thing) -> str:
    return thing.name


@router.get("/things/{thing_id}")
async def one_thing(thing_id: int, response: Response, tag: Annotated[list[str] | None, Query()] = None) -> list[str]:
    response.headers["ETag"] = f'"{thing_id}"'
    return tag or []


@router.patch("/things/{thing_id}")
async def at(thing_id: int, thing: TimedThing) -> datetime:
    return thing.at


@router.get("/open", dependencies=[AnyQuery])
async def open_query() -> None:
    """Takes whatever is in the query."""


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
async def no_resources(_settings: SampleSettings, _runtime: Runtime) -> AsyncIterator[Started[None]]:
    yield None, ()


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


async def test_services_and_clients_have_routes_of_their_own(
    client: httpx.AsyncClient, tokens: IdentityDouble, tenant_id: uuid.UUID
) -> None:
    """Whatever the route itself asks for."""
    for kind, open_to in (
        (PrincipalKind.SERVICE, "/internal/whoami"),
        (PrincipalKind.API_KEY, "/whoami"),
        (PrincipalKind.SESSION, "/whoami"),
    ):
        headers = tokens.headers("notifier", tenant_id=tenant_id, kind=kind)
        for path in ("/whoami", "/internal/whoami"):
            expected = 200 if path == open_to else 403
            assert (await client.get(path, headers=headers)).status_code == expected, (kind, path)


async def test_a_used_up_quota_is_named_with_its_numbers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/quota")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (403, "quota_exceeded")
    assert (problem["quota"], problem["limit"], problem["used"]) == ("things_per_tenant", 3, 3)


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


async def test_an_outage_writes_one_line_and_no_trace(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await client.get("/away")
    (line,) = (record for record in caplog.records if "/away" in record.getMessage())
    assert (line.levelname, "'error': 'unavailable'" in line.getMessage()) == ("WARNING", True)
    assert "'reason': " in line.getMessage()
    assert "Traceback" not in caplog.text and "exc_info" not in line.getMessage()


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

        app.found("checks", dict).update({"a": stuck, "b": hanging})
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


# --- what every request is held to -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/things/7", "/metrics", "/openapi.json"])
async def test_head_is_get_without_the_body(client: httpx.AsyncClient, path: str) -> None:
    whole, head = await client.get(path), await client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert set(head.headers) == set(whole.headers)
    if path != "/metrics":
        assert head.headers["content-length"] == str(len(whole.content))
        assert head.headers["content-type"] == whole.headers["content-type"]


async def test_a_path_names_its_methods(client: httpx.AsyncClient) -> None:
    for method in ("PUT", "DELETE", "POST", "TRACE", "PROPFIND"):
        answer = await client.request(method, "/things/7")
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS, PATCH"
    options = await client.options("/things")
    assert (options.status_code, options.content, options.headers["allow"]) == (204, b"", "OPTIONS, POST")
    assert (await client.options("/nowhere")).status_code == 404


async def test_unknown_and_repeated_query_parameters_are_refused(client: httpx.AsyncClient) -> None:
    for method in ("GET", "HEAD"):
        assert (await client.request(method, "/things/7", params={"tag": ["a", "b"]})).status_code == 200
        answer = await client.request(method, "/things/7?Tag=a&colour=red")
        assert answer.status_code == 422
    refused = (await client.get("/things/7?Tag=a&" + "x" * 3000 + "=1")).json()
    assert [error["field"] for error in refused["errors"]] == ["query.Tag", "query." + "x" * 63 + "\u2026"]
    assert (await client.get("/things/7?" + "&".join(f"p{n}" for n in range(101)))).status_code == 422
    assert (await client.get("/open?anything=1&anything=2")).status_code == 200
    assert (await client.post("/things?x=1", json={"name": "a"})).status_code == 422
    assert (await client.get("/healthz?x")).status_code == 422


async def test_conditions_on_a_tag_are_heeded(client: httpx.AsyncClient) -> None:
    known = await client.get("/things/7", headers={"If-None-Match": 'W/"7"'})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", '"7"')
    assert "content-length" not in known.headers
    for method in ("GET", "HEAD"):
        stale = await client.request(method, "/things/7", headers={"If-Match": '"6"'})
        assert (stale.status_code, bool(stale.content)) == (412, method == "GET")
        assert (await client.request(method, "/things/7", headers={"If-Match": '"6", "7"'})).status_code == 200


async def test_a_slash_too_many_leads_back_to_where_the_client_came_in(client: httpx.AsyncClient) -> None:
    answer = await client.get("/things/7/?tag=a")
    assert (answer.status_code, answer.headers["location"]) == (307, "/things/7?tag=a")
    assert (await client.get("/nowhere/")).status_code == 404


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (None, 415),
        ("", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json; charset=utf-16", 415),
        ("application/json", 200),
        ("Application/JSON;charset=UTF-8", 200),
        ('application/json; charset="utf-8"', 200),
        ("application/merge-patch+json", 200),
    ],
)
async def test_json_says_that_it_is_json(client: httpx.AsyncClient, content_type: str | None, status: int) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = await client.post("/things", content=b'{"name": "a"}', headers=headers)
    assert answer.status_code == status, answer.text
    if status == 415:
        assert (answer.json()["code"], answer.headers["accept"]) == ("unsupported_media_type", "application/json")


async def test_json_may_be_compressed(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    body = gzip.compress(b'{"name": "a"}')
    assert (await client.post("/things", content=body, headers=headers)).json() == "a"
    assert (await client.post("/things", content=body[:-1], headers=headers)).status_code == 400
    bomb = gzip.compress(b" " * (JSON_BYTES + 1))
    assert (await client.post("/things", content=bomb, headers=headers)).status_code == 413
    answer = await client.post("/things", content=body, headers={**headers, "Content-Encoding": "br"})
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "gzip")


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"name": "' + b"x" * (JSON_BYTES - 20) + b'"}', 200),
        (b'{"name": "' + b"x" * JSON_BYTES + b'"}', 413),
        (b'{"name": "' + b",:" * MAX_VALUES + b'"}', 200),
        (b"[" + b"0," * MAX_VALUES + b"0]", 413),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), 422),
        (b"[" * 100_000, 400),
        (b'{"name": "\xff"}', 400),
        (b'{"name": "\\ud800"}', 422),
        (b'{"name": NaN}', 422),
        (b'{"name": ' + b"9" * 5000 + b"}", 400),
        (b'{"\\ud800": 1, "name": "a"}', 422),
        (b"", 422),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_is_bounded_before_anything_is_made_of_it(
    client: httpx.AsyncClient, body: bytes, status: int, *, chunked: bool
) -> None:
    content = pieces(body) if chunked else body
    answer = await client.post("/things", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text[:500]
    assert len(answer.content) < 300_000 if status == 200 else len(answer.content) < 2000


async def test_a_client_reads_only_so_much_about_its_errors(client: httpx.AsyncClient) -> None:
    fields = {f"unknown\n{number}" + "y" * 90: number for number in range(MAX_SHOWN_ERRORS + 1)}
    answer = await client.post("/things", json=fields)
    assert (answer.status_code, len(answer.json()["errors"])) == (422, MAX_SHOWN_ERRORS)
    assert f"of {MAX_SHOWN_ERRORS + 2} errors" in answer.json()["detail"]
    assert "\\n" not in answer.text
    assert len(answer.content) < 4000
    many = await client.post("/things", json={str(number): number for number in range(9000)})
    assert (many.status_code, len(many.json()["errors"])) == (422, 1)
    path = await client.get("/" + "long path " * 500)
    assert len(path.json()["instance"]) < 700


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2030-01-01T00:00:00Z", "2030-01-01T00:00:00Z"),
        ("2030-01-01t00:00:00.5+02:00", "2029-12-31T22:00:00.500000Z"),
        ("9998-12-31T23:59:59Z", "9998-12-31T23:59:59Z"),
        ("9999-12-31T23:59:59.999999Z", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("9998-12-31T23:59:59-23:59", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("0001-01-01T00:00:00Z", None),
        ("10000-01-01T00:00:00Z", None),
        ("2030-01-01T00:00:00", None),
        ("2030-01-01", None),
        ("1893456000", None),
        (1893456000, None),
        (10**30, None),
        (1.5e300, None),
    ],
)
async def test_a_time_in_a_request_is_one_that_can_be_kept(
    client: httpx.AsyncClient, sent: object, kept: str | None
) -> None:
    answer = await client.patch("/things/7", json={"at": sent})
    assert (answer.status_code, answer.json() if kept else None) == (200 if kept else 422, kept), answer.text
