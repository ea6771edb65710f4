"""A response that goes on at another service: where it may, and what the client sees of it."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Receive, Send

from services.gateway import routes
from services.gateway.errors import BadUpstreamResponse
from services.gateway.inbound.request_validation import ClientRequest
from services.gateway.proxy.continuation import continuation_of
from tests.services.gateway.conftest import Gateway
from tests.services.gateway.doubles import Answer, Seen, Services, read_body
from tests.support.polling import eventually

PROJECT = "/v1/projects/0198c0de-0000-7000-8000-000000000001"
OTHER = "/v1/projects/0198c0de-0000-7000-8000-000000000002"
RUN = "0198c0de-0000-7000-8000-000000000009"
EVENTS = f"{PROJECT}/runs/{RUN}/events"


def request(path: str = f"{PROJECT}/ask", method: str = "POST") -> ClientRequest:
    return ClientRequest(method, path, path, "", ((b"user-agent", b"test"), (b"last-event-id", b"7")), True, 2, "::1")


def goes_on(where: str, path: str = f"{PROJECT}/ask", method: str = "POST") -> str | None:
    """Where the response to a request goes on, if the service says so."""
    asked = request(path, method)
    route = routes.match(method, path)
    assert route is not None
    found = continuation_of(asked, route, 201, [(b"X-Quarry-Continue", where.encode())])
    return None if found is None else found.request.path


@pytest.mark.parametrize("path", [f"{PROJECT}/ask", f"{PROJECT}/runs"])
def test_a_run_goes_on_at_its_events(path: str) -> None:
    assert goes_on(EVENTS, path) == EVENTS


@pytest.mark.parametrize(
    "where",
    [
        f"{OTHER}/runs/{RUN}/events",
        f"{PROJECT}/events",
        f"{PROJECT}/documents",
        f"{PROJECT}/runs/{RUN}/events?last_event_id=1",
        f"{PROJECT}/runs/../events",
        f"http://elsewhere.test{EVENTS}",
        "/internal/projects",
        "/v1/events",
        "",
    ],
)
def test_only_the_events_of_a_run_in_the_same_project_may_follow(where: str) -> None:
    with pytest.raises(BadUpstreamResponse):
        goes_on(where)


@pytest.mark.parametrize(
    ("path", "method"),
    [
        (f"{PROJECT}/documents", "POST"),
        (f"{PROJECT}/search", "POST"),
        (f"{PROJECT}/events", "GET"),
        ("/v1/me", "GET"),
    ],
)
def test_nobody_but_who_starts_runs_may_have_a_response_go_on(path: str, method: str) -> None:
    with pytest.raises(BadUpstreamResponse):
        goes_on(EVENTS, path, method)


def test_a_response_without_the_header_is_complete() -> None:
    route = routes.match("POST", f"{PROJECT}/ask")
    assert route is not None
    assert continuation_of(request(), route, 200, [(b"content-type", b"application/json")]) is None


def starting(where: str = EVENTS) -> Answer:
    async def answer(_seen: Seen, receive: Receive, send: Send) -> None:
        await read_body(receive)
        headers = [(b"x-quarry-continue", where.encode()), (b"quarry-run-id", RUN.encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    return answer


def telling(*frames: bytes, then: Callable[[], Awaitable[None]] | None = None) -> Answer:
    async def answer(_seen: Seen, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"x-quarry-continue", EVENTS.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for frame in frames:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        if then is not None:
            await then()
        await send({"type": "http.response.body", "body": b""})

    return answer


async def test_the_client_gets_one_response(gateway: Gateway, services: Services) -> None:
    services.indexing.answers[f"{PROJECT}/runs"] = starting()
    services.notifier.answers[EVENTS] = telling(b"id: 1\nevent: done\ndata: {}\n\n")
    key, _ = services.identity.new_key()
    headers = {**key, "X-Quarry-Continue": f"{OTHER}/runs/{RUN}/events", "Last-Event-ID": "7"}
    body = {"agent": "answer", "input": {}, "stream": True}
    async with gateway.client.post(f"{gateway.url}{PROJECT}/runs", json=body, headers=headers) as answer:
        assert (answer.status, await answer.read()) == (201, b"id: 1\nevent: done\ndata: {}\n\n")
        assert answer.headers["Quarry-Run-Id"] == RUN
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert "X-Quarry-Continue" not in answer.headers
    assert services.indexing.last.header("x-quarry-continue") is None
    asked = services.notifier.last
    assert (asked.method, asked.raw_path, asked.query, asked.header("last-event-id")) == ("GET", EVENTS, "", None)
    assert (asked.header("content-type"), asked.header("content-length")) == (None, None)
    assert asked.header("authorization") not in (None, services.indexing.last.header("authorization"))


async def test_what_the_second_service_refuses_is_passed_on_with_the_id_of_the_run(
    gateway: Gateway, services: Services
) -> None:
    async def refusing(_seen: Seen, _receive: Receive, send: Send) -> None:
        body = json.dumps({"code": "too_many_streams"}).encode()
        headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 429, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    services.indexing.answers[f"{PROJECT}/ask"] = starting()
    services.notifier.answers[EVENTS] = refusing
    key, _ = services.identity.new_key()
    async with gateway.client.post(f"{gateway.url}{PROJECT}/ask", json={}, headers=key) as answer:
        assert (answer.status, answer.headers["Quarry-Run-Id"]) == (429, RUN)


async def test_an_address_that_may_not_follow_is_a_bad_gateway(gateway: Gateway, services: Services) -> None:
    services.indexing.answers[f"{PROJECT}/ask"] = starting(f"{OTHER}/runs/{RUN}/events")
    key, _ = services.identity.new_key()
    async with gateway.client.post(f"{gateway.url}{PROJECT}/ask", json={}, headers=key) as answer:
        assert answer.status == 502
        assert "X-Quarry-Continue" not in answer.headers
    assert services.notifier.seen == []


async def test_a_client_that_leaves_ends_the_second_call(gateway: Gateway, services: Services) -> None:
    never = asyncio.Event()

    async def wait() -> None:
        await never.wait()

    services.indexing.answers[f"{PROJECT}/ask"] = starting()
    services.notifier.answers[EVENTS] = telling(b": hello\n\n", then=wait)
    key, _ = services.identity.new_key()
    async with gateway.client.post(f"{gateway.url}{PROJECT}/ask", json={}, headers=key) as answer:
        assert await answer.content.readany() == b": hello\n\n"
        assert services.notifier.running == 1
        answer.close()

    async def quiet() -> bool:
        return gateway.resources.load_shedder.streams == 0

    await eventually(quiet)
    never.set()
