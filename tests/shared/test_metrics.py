"""What `/metrics` tells of a service, and that neither a slow nor a missing source keeps it from telling."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis
from sqlalchemy import delete
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.notifier.main import create_app as create_notifier
from services.projects.main import create_app
from shared import gauges
from shared.dead_letters import DeadLetter
from shared.gauges import Gauges
from shared.metrics import Metrics, RequestMetrics
from shared.outbox import OutboxEvent, publish
from shared.redis_clients import command_client
from shared.tenancy import Database
from tests.shared.events import NoteWritten
from tests.support.identity import IdentityDouble
from tests.support.letters import envelope_of, stored
from tests.support.polling import eventually
from tests.support.serving import StartedApp, in_process
from tests.support.stacks import EnvironmentOf

STREAM = "events.notifier"
Labels = dict[str, str]


@pytest.fixture
async def app_and_client(service_environment: EnvironmentOf) -> AsyncIterator[tuple[StartedApp, httpx.AsyncClient]]:
    async with in_process(create_app, await service_environment("projects")) as running:
        yield running


@pytest.fixture
def client(app_and_client: tuple[StartedApp, httpx.AsyncClient]) -> httpx.AsyncClient:
    return app_and_client[1]


@pytest.fixture
async def reading(database: Database, redis_client: Redis) -> AsyncIterator[Metrics]:
    """The notifier's metrics with what Postgres and Redis know, and nothing that changes either."""
    async with database.system() as session:
        await session.execute(delete(DeadLetter))
        await session.execute(delete(OutboxEvent))
    await redis_client.flushdb()
    metrics = Metrics("notifier")
    readings = Gauges("notifier", database.engines.system, redis_client, reads=[STREAM])
    with metrics.including(readings):
        yield metrics
    await readings.close()


@pytest.fixture(autouse=True)
def always_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "FRESH_SECONDS", 0.0)


def values(text: str | bytes, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """The samples of one name by their labels besides the service's."""
    text = text if isinstance(text, str) else text.decode()
    return {
        tuple(sorted((label, value) for label, value in sample.labels.items() if label != "service")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def value(text: str | bytes, name: str, **labels: str) -> float | None:
    return values(text, name).get(tuple(sorted(labels.items())))


# --- events ----------------------------------------------------------------------------------------------------------


async def test_what_happens_to_events_is_counted() -> None:
    metrics = Metrics("notifier")
    metrics.handled("tests.handler", 0.02)
    metrics.handled("tests.handler", 0.4, events=4)
    metrics.failed("tests.handler")
    metrics.quarantined("decode")
    metrics.redriven("decode", failed=True)
    metrics.published(7)
    text = await metrics.exposition()
    assert value(text, "quarry_events_handled_total", handler="tests.handler") == 5
    assert value(text, "quarry_handler_seconds_count", handler="tests.handler") == 5
    assert value(text, "quarry_handler_seconds_sum", handler="tests.handler") == pytest.approx(0.42)
    assert value(text, "quarry_handler_seconds_bucket", handler="tests.handler", le="0.05") == 1
    assert value(text, "quarry_events_failed_total", handler="tests.handler") == 1
    assert value(text, "quarry_dead_letters_total", handler="decode") == 1
    assert value(text, "quarry_redrives_total", handler="decode", outcome="failed") == 1
    assert value(text, "quarry_events_published_total") == 7
    assert b"_created" not in text


async def test_two_applications_share_no_count() -> None:
    one, other = Metrics("notifier"), Metrics("notifier")
    one.published(1)
    assert value(await other.exposition(), "quarry_events_published_total") == 0


async def test_who_leads_the_relay_is_asked_at_every_scrape() -> None:
    metrics, leading = Metrics("notifier"), False
    assert value(await metrics.exposition(), "quarry_relay_leading") == 0
    metrics.watch_leading(lambda: leading)
    assert value(await metrics.exposition(), "quarry_relay_leading") == 0
    leading = True
    assert value(await metrics.exposition(), "quarry_relay_leading") == 1


# --- what Postgres and Redis know ------------------------------------------------------------------------------------


async def test_open_dead_letters_are_told_by_handler(
    database: Database, reading: Metrics, tenant_id: uuid.UUID
) -> None:
    await stored(database)
    for _ in range(2):
        await stored(database, envelope_of(NoteWritten(note_id=uuid.uuid4()), tenant_id), handler="tests.handler")
    found = values(await reading.exposition(), "quarry_dead_letters_open")
    assert found == {(("handler", "decode"),): 1, (("handler", "tests.handler"),): 2}


async def test_the_backlog_of_the_outbox_has_a_size_and_an_age(
    database: Database, reading: Metrics, tenant_id: uuid.UUID
) -> None:
    text = await reading.exposition()
    assert value(text, "quarry_outbox_unpublished") == value(text, "quarry_outbox_oldest_seconds") == 0
    async with database.tenant(tenant_id) as session:
        for _ in range(3):
            publish(session, NoteWritten(note_id=uuid.uuid4()), sequence=1)

    async def aged() -> bool:
        text = await reading.exposition()
        return value(text, "quarry_outbox_unpublished") == 3 and (value(text, "quarry_outbox_oldest_seconds") or 0) > 0

    await eventually(aged)


async def test_a_stream_without_a_group_has_only_a_length(reading: Metrics, redis_client: Redis) -> None:
    text = await reading.exposition()
    assert value(text, "quarry_stream_entries", stream=STREAM) == 0
    await redis_client.xadd(STREAM, {"event": b"{}"})
    text = await reading.exposition()
    assert value(text, "quarry_stream_entries", stream=STREAM) == 1
    assert values(text, "quarry_stream_pending") == {}
    assert value(text, "quarry_source_up", source="redis") == 1


async def test_unread_and_pending_entries_are_told_by_stream(reading: Metrics, redis_client: Redis) -> None:
    await redis_client.xgroup_create(STREAM, "notifier", id="0", mkstream=True)
    await redis_client.xgroup_create(STREAM, "another", id="0")
    seconds: Any = (await redis_client.time())[0]
    await redis_client.xadd(STREAM, {"event": b"{}"}, id=f"{(seconds - 300) * 1000}-0")
    await redis_client.xadd(STREAM, {"event": b"{}"})
    text = await reading.exposition()
    assert value(text, "quarry_stream_unread", stream=STREAM) == 2
    assert value(text, "quarry_stream_pending_oldest_seconds", stream=STREAM) == 0
    await redis_client.xreadgroup("notifier", "tests", {STREAM: ">"}, count=1)
    text = await reading.exposition()
    assert value(text, "quarry_stream_unread", stream=STREAM) == 1
    assert value(text, "quarry_stream_pending", stream=STREAM) == 1
    assert 299 < (value(text, "quarry_stream_pending_oldest_seconds", stream=STREAM) or 0) < 330


async def test_a_source_that_does_not_answer_is_missing_and_the_scrape_is_not(
    database: Database, reading: Metrics, redis_client: Redis, folders: Callable[[str], Path]
) -> None:
    nobody = command_client(f"unix://{folders('nobody')}/redis.sock")
    without = Metrics("notifier")
    readings = Gauges("notifier", database.engines.system, nobody, reads=[STREAM])
    with without.including(readings):
        text = await without.exposition()
    await readings.close()
    await nobody.aclose()
    assert value(text, "quarry_source_up", source="redis") == 0
    assert values(text, "quarry_stream_entries") == {}
    assert value(text, "quarry_source_up", source="postgres") == 1
    assert value(text, "quarry_outbox_unpublished") == 0


async def test_what_redis_refuses_for_another_reason_is_not_taken_for_a_missing_stream(
    reading: Metrics, redis_client: Redis
) -> None:
    await redis_client.set(STREAM, "no stream")
    text = await reading.exposition()
    assert value(text, "quarry_source_up", source="redis") == 0
    assert values(text, "quarry_stream_entries") == {}
    await redis_client.delete(STREAM)


async def test_closing_ends_a_reading_under_way(database: Database, redis_client: Redis) -> None:
    engine = database.engines.system
    connections = [await engine.connect() for _ in range(5)]
    readings = Gauges("notifier", engine, redis_client, reads=[])
    refreshing = asyncio.create_task(readings.refresh())
    names = {"metrics from postgres", "metrics from redis"}
    await eventually(lambda: _any_task(names))
    await readings.close()
    await refreshing
    assert not await _any_task(names)
    for connection in connections:
        await connection.close()


async def test_a_source_that_is_slow_does_not_keep_a_scrape(
    database: Database, reading: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauges, "READ_SECONDS", 0.3)
    # Somebody has every connection; a reading waits for one.
    engine = database.engines.system
    connections = [await engine.connect() for _ in range(5)]
    clock = asyncio.get_running_loop().time
    began = clock()
    text = await reading.exposition()
    assert clock() - began < 2
    assert value(text, "quarry_source_up", source="postgres") == 0
    assert value(text, "quarry_source_up", source="redis") == 1
    for connection in connections:
        await connection.close()

    async def up_again() -> bool:
        return value(await reading.exposition(), "quarry_source_up", source="postgres") == 1

    await eventually(up_again)


async def test_scrapes_at_once_read_once(database: Database, reading: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "FRESH_SECONDS", 30.0)
    first = await asyncio.gather(*(reading.exposition() for _ in range(5)))
    await stored(database)
    later = await reading.exposition()
    assert all(value(text, "quarry_source_up", source="postgres") == 1 for text in first)
    assert values(later, "quarry_dead_letters_open") == {}


# --- HTTP ------------------------------------------------------------------------------------------------------------


async def test_requests_are_told_apart_by_the_template_of_their_route(
    client: httpx.AsyncClient, tokens: IdentityDouble, tenant_id: uuid.UUID
) -> None:
    project = uuid.uuid4()
    headers = tokens.headers("projects", tenant_id=tenant_id)
    await client.get(f"/v1/projects/{project}", headers=headers)
    await client.get("/v1/projects", headers=headers)
    await client.get(f"/nothing/{tenant_id}")
    await client.request("BREW", "/v1/projects")
    text = (await client.get("/metrics")).text
    requests = values(text, "quarry_http_requests_total")
    assert requests[("method", "GET"), ("route", "/v1/projects/{project_id}"), ("status", "4xx")] == 1
    assert requests[("method", "GET"), ("route", "/v1/projects"), ("status", "2xx")] == 1
    assert requests[("method", "GET"), ("route", "unmatched"), ("status", "4xx")] == 1
    assert value(text, "quarry_http_request_seconds_count", method="GET", route="/v1/projects") == 1
    assert "BREW" not in text
    assert str(tenant_id) not in text
    assert str(project) not in text


@pytest.mark.parametrize(("outcome", "status"), [(RuntimeError, "5xx"), (asyncio.CancelledError, "aborted")])
async def test_a_request_without_an_answer_is_counted_as_well(outcome: type[BaseException], status: str) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise outcome

    metrics = Metrics("notifier")
    with pytest.raises(outcome):
        await ask(RequestMetrics(broken, metrics=metrics))
    counted = values(await metrics.exposition(), "quarry_http_requests_total")
    assert counted == {(("method", "GET"), ("route", "unmatched"), ("status", status)): 1}


async def test_the_clock_stops_when_the_answer_begins() -> None:
    async def trickle(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with moved_clock():
            await send({"type": "http.response.body", "body": b""})
            raise RuntimeError

    metrics = Metrics("notifier")
    with pytest.raises(RuntimeError):
        await ask(RequestMetrics(trickle, metrics=metrics))
    text = await metrics.exposition()
    assert value(text, "quarry_http_requests_total", method="GET", route="unmatched", status="2xx") == 1
    assert (value(text, "quarry_http_request_seconds_sum", method="GET", route="unmatched") or 9) < 1


async def test_only_http_is_counted() -> None:
    seen: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    metrics = Metrics("notifier")
    await ask(RequestMetrics(application, metrics=metrics), kind="lifespan")
    assert seen == ["lifespan"]
    assert values(await metrics.exposition(), "quarry_http_requests_total") == {}


@pytest.mark.parametrize("service", ["projects", "notifier"])
async def test_a_service_exports_everything_on_its_own_port(service_environment: EnvironmentOf, service: str) -> None:
    factory = {"projects": create_app, "notifier": create_notifier}[service]
    async with in_process(factory, await service_environment(service)) as (_, client):

        async def leads() -> str:
            text = (await client.get("/metrics")).text
            return text if value(text, "quarry_relay_leading") == 1 else ""

        text = await eventually(leads)
        answer = await client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert value(text, "quarry_source_up", source="postgres") == value(text, "quarry_source_up", source="redis") == 1
    assert value(text, "quarry_stream_entries", stream=f"events.{service}") is not None


async def _any_task(names: set[str]) -> bool:
    return any(task.get_name() in names for task in asyncio.all_tasks())


async def ask(app: ASGIApp, kind: str = "http") -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        assert message

    await app({"type": kind, "method": "GET", "path": "/", "headers": []}, receive, send)


@contextmanager
def moved_clock() -> Iterator[None]:
    """Inside the block an hour has passed."""
    with pytest.MonkeyPatch.context() as patch:
        now = time.perf_counter()
        patch.setattr("shared.metrics.time.perf_counter", lambda: now + 3600)
        yield
