"""What the gateway tells of itself, on a port of its own alone."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from services.gateway import routes
from services.gateway.metrics import GatewayMetrics, exposed
from services.gateway.routes import METHODS, ROUTES
from shared.settings import SettingsError
from tests.services.gateway.conftest import Gateway, StartGateway
from tests.services.gateway.doubles import Seen, Services, reply
from tests.shared.test_metrics import value, values
from tests.support.polling import eventually

PROJECT = f"/v1/projects/{uuid.uuid4()}"
Scrape = Callable[[], Awaitable[str]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def metrics_port() -> int:
    return free_port()


@pytest.fixture
async def gateway(start_gateway: StartGateway, metrics_port: int) -> Gateway:
    return await start_gateway(metrics_port=metrics_port, anonymous_per_minute=3)


@pytest.fixture
async def scrape(gateway: Gateway, metrics_port: int) -> AsyncIterator[Scrape]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{metrics_port}") as client:

        async def ask() -> str:
            answer = await client.get("/metrics")
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            return answer.text

        yield ask


async def test_metrics_are_on_the_internal_port_and_on_no_other(gateway: Gateway, metrics_port: int) -> None:
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{gateway.url}/metrics")).status_code == 404
        internal = f"http://127.0.0.1:{metrics_port}"
        assert (await client.get(f"{internal}/metrics")).status_code == 200
        for path in ("/", "/healthz", "/v1/me", "/internal/token", "/docs"):
            assert (await client.get(f"{internal}{path}")).status_code == 404, path
        assert (await client.post(f"{internal}/metrics")).status_code == 405


async def test_without_a_port_nothing_listens(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    async with gateway.client.get("/healthz") as answer:
        assert answer.status == 200


async def test_a_port_that_is_taken_stops_the_start(gateway: Gateway, metrics_port: int) -> None:
    # By another one than the gateway of this test, which has it.
    with pytest.raises(SettingsError, match=rf"QUARRY_GATEWAY_METRICS_PORT: cannot listen on 127.0.0.1:{metrics_port}"):
        async with exposed(gateway.resources.settings, GatewayMetrics(), gateway.resources):
            raise AssertionError("started all the same")


async def test_requests_are_told_by_route_and_by_the_service_that_answered(
    gateway: Gateway, services: Services, scrape: Scrape
) -> None:
    headers, _ = services.identity.new_key()

    async def refuse(_seen: Seen, receive: object, send: object) -> None:
        await reply(send, {"code": "not_found"}, status=404)  # type: ignore[arg-type]  # as `Answer` has it

    services.indexing.answers[f"{PROJECT}/search"] = refuse
    for _ in range(2):
        async with gateway.client.get(PROJECT, headers=headers) as answer:
            assert answer.status == 200
    async with gateway.client.post(f"{PROJECT}/search", headers=headers, json={}) as answer:
        assert answer.status == 404
    text = await scrape()
    project = {"method": "GET", "route": "/v1/projects", "status": "2xx"}
    search = {"route": "/v1/projects/{id}/search", "status": "4xx"}
    assert value(text, "quarry_http_requests_total", **project) == 2
    assert value(text, "quarry_http_requests_total", method="POST", **search) == 1
    assert value(text, "quarry_upstream_answers_total", upstream="projects", route="/v1/projects", status="2xx") == 2
    assert value(text, "quarry_upstream_answers_total", upstream="indexing", **search) == 1
    of_projects = {"upstream": "projects", "route": "/v1/projects"}
    assert value(text, "quarry_upstream_seconds_count", **of_projects) == 2
    whole = value(text, "quarry_http_request_seconds_sum", method="GET", route="/v1/projects")
    upstream = value(text, "quarry_upstream_seconds_sum", **of_projects)
    assert whole is not None
    assert upstream is not None
    assert 0 < upstream < whole


async def test_what_the_gateway_answers_itself_is_no_answer_of_a_service(gateway: Gateway, scrape: Scrape) -> None:
    for path, status in ((PROJECT, 401), ("/healthz", 200), ("/secret-canary", 404)):
        async with gateway.client.get(path) as answer:
            assert answer.status == status
    text = await scrape()
    requests = values(text, "quarry_http_requests_total")
    assert {dict(labels)["route"] for labels in requests} == {"/v1/projects", "/healthz", "unmatched"}
    assert values(text, "quarry_upstream_answers_total") == {}
    assert "secret-canary" not in text


async def test_refusals_are_counted_by_limit(gateway: Gateway, scrape: Scrape) -> None:
    for _ in range(5):
        async with gateway.client.get("/v1/nobody") as answer:
            await answer.read()
    text = await scrape()
    assert value(text, "quarry_rate_limited_total", limit="anonymous") == 2
    assert value(text, "quarry_rate_limited_total", limit="tenant") == 0


async def test_the_token_cache_tells_how_often_it_helps(gateway: Gateway, services: Services, scrape: Scrape) -> None:
    headers, _ = services.identity.new_key()
    for _ in range(3):
        async with gateway.client.get("/v1/me", headers=headers) as answer:
            assert answer.status == 200
    text = await scrape()
    assert value(text, "quarry_token_cache_entries") == 1
    assert value(text, "quarry_token_cache_lookups_total", outcome="miss") == 1
    assert value(text, "quarry_token_cache_lookups_total", outcome="hit") == 2


async def test_what_is_under_way_is_told_as_it_is_now(gateway: Gateway, services: Services, scrape: Scrape) -> None:
    headers, _ = services.identity.new_key()
    go_on = asyncio.Event()

    async def later(_seen: Seen, receive: object, send: object) -> None:
        await go_on.wait()
        await reply(send, {})  # type: ignore[arg-type]  # as `Answer` has it

    services.projects.answers[PROJECT] = later
    services.notifier.answers["/v1/events"] = later
    asked = [asyncio.create_task(_get(gateway, path, headers)) for path in (PROJECT, "/v1/events", "/v1/events")]

    async def all_there() -> bool:
        text = await scrape()
        return (
            value(text, "quarry_requests_in_flight", upstream="projects") == 1 and value(text, "quarry_sse_open") == 2
        )

    await eventually(all_there)
    go_on.set()
    assert await asyncio.gather(*asked) == [200, 200, 200]
    text = await scrape()
    assert value(text, "quarry_requests_in_flight", upstream="projects") == 0
    assert value(text, "quarry_sse_open") == 0
    assert value(text, "quarry_replicas", upstream="projects", state="closed") == 1
    assert value(text, "quarry_replicas", upstream="projects", state="open") == 0


def test_a_route_is_told_by_words_of_the_table_alone() -> None:
    shown = set()
    for path in (
        f"{PROJECT}/documents",
        f"{PROJECT}/documents/canary/content",
        f"{PROJECT}/documents/canary/versions",
        f"{PROJECT}/uploads/canary",
        f"{PROJECT}/ask",
        f"{PROJECT}/dead-letters/canary/redrive",
        f"{PROJECT}/events",
        f"{PROJECT}/canary/canary",
        "/v1/events",
        "/v1/exports/canary/content",
        "/v1/webhooks/canary",
        "/v1/api-keys/canary",
        "/auth/callback/canary",
        "/auth/canary/canary",
    ):
        for method in METHODS:
            route = routes.match(method, path)
            assert route is not None
            shown.add(route.template(path))
            assert "canary" not in route.template(path)
    assert shown >= {
        "/v1/projects/{id}/documents/{id}/content",
        "/v1/projects/{id}/dead-letters",
        "/v1/projects",
        "/v1/api-keys",
        "/auth/callback",
        "/auth/{page}",
    }
    assert not [one for one in shown if set("()[]?|*+^$\\") & set(one)]
    assert len(ROUTES) >= 13


async def _get(gateway: Gateway, path: str, headers: dict[str, str]) -> int:
    async with gateway.client.get(path, headers=headers) as answer:
        await answer.read()
        return answer.status
