"""What passes the gateway and how."""

import re

import pytest
from starlette.types import Receive, Send

from tests.services.gateway.conftest import Gateway
from tests.services.gateway.doubles import Seen, Services, reply

PROJECT = "/v1/projects/0198c0de-0000-7000-8000-000000000001"


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/v1/projects", "projects"),
        (PROJECT, "projects"),
        (f"{PROJECT}/documents", "projects"),
        (f"{PROJECT}/documents/x/content", "projects"),
        (f"{PROJECT}/documents/x/chunks", "indexing"),
        (f"{PROJECT}/documents/x/similar", "indexing"),
        (f"{PROJECT}/members", "projects"),
        (f"{PROJECT}/search", "indexing"),
        (f"{PROJECT}/jobs", "indexing"),
        (f"{PROJECT}/progress", "indexing"),
        (f"{PROJECT}/dead-letters/1/redrive", "indexing"),
        (f"{PROJECT}/events", "notifier"),
        ("/v1/exports", "projects"),
        ("/v1/exports/x/content", "projects"),
        ("/v1/events", "notifier"),
        ("/v1/notifications", "notifier"),
        ("/v1/webhooks/1", "notifier"),
        ("/v1/me", "identity"),
        ("/v1/tenants/1", "identity"),
        ("/v1/api-keys", "identity"),
        ("/v1/audit/verify", "identity"),
    ],
)
async def test_a_path_goes_to_the_service_it_belongs_to(
    gateway: Gateway, services: Services, path: str, service: str
) -> None:
    headers, account = services.identity.new_key()
    async with gateway.client.get(f"{path}?a=1&b=%20", headers=headers) as answer:
        assert answer.status == 200
        assert await answer.json() == {"service": service, "path": path, "query": "a=1&b=%20"}
    (seen,) = getattr(services, service).seen
    assert seen.header("authorization") == f"Bearer internal-{service}-{account.credential_id}"


async def test_a_service_sees_request_id_trace_and_where_the_request_came_from(
    gateway: Gateway, services: Services
) -> None:
    headers, _ = services.identity.new_key()
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers |= {"X-Request-ID": "my-id.1", "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    async with gateway.client.get("/v1/projects", headers=headers) as answer:
        assert answer.headers.getall("X-Request-ID") == ["my-id.1"]
    seen = services.projects.last
    assert seen.header("x-request-id") == "my-id.1"
    assert (seen.header("traceparent") or "").split("-")[1] != trace_id
    assert seen.header("x-forwarded-for") == "127.0.0.1"
    assert seen.header("x-forwarded-proto") == "http"
    assert seen.header("x-forwarded-host") == "quarry.test"
    assert 0 < int(seen.header("x-quarry-deadline-ms") or "") <= 30_000


async def test_a_request_id_of_unsafe_form_is_replaced(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    async with gateway.client.get("/v1/projects", headers={**headers, "X-Request-ID": "a b"}) as answer:
        given = answer.headers["X-Request-ID"]
    assert re.fullmatch(r"[0-9a-f]{32}", given)
    assert services.projects.last.header("x-request-id") == given


async def test_methods_bodies_and_statuses_pass(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()

    async def created(_seen: Seen, _receive: Receive, send: Send) -> None:
        await reply(send, {"id": 1}, status=201, headers=[(b"etag", b'"1"'), (b"location", b"/v1/projects/1")])

    services.projects.answers["/v1/projects"] = created
    async with gateway.client.post("/v1/projects", json={"name": "x"}, headers=headers) as answer:
        assert (answer.status, answer.headers["ETag"], answer.headers["Location"]) == (201, '"1"', "/v1/projects/1")
    async with gateway.client.patch(f"{PROJECT}", data=b"abc", headers=headers) as answer:
        assert answer.status == 200
    assert services.projects.last.body == b"abc"
    async with gateway.client.head(PROJECT, headers=headers) as answer:
        assert answer.status == 200
        assert await answer.read() == b""
        assert int(answer.headers["Content-Length"]) > 0
    async with gateway.client.delete(PROJECT, headers=headers) as answer:
        assert answer.status == 200
    assert services.projects.last.method == "DELETE"
