"""What a worker tells Prometheus of the jobs it has made."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from services.indexing.jobs.errors import CancelRequested, LeaseLost
from services.indexing.jobs.metrics import JobMetrics
from services.indexing.main import create_app
from services.indexing.pipeline.stages import Pipeline
from services.indexing.vectors.errors import VectorStoreUnavailable
from shared import gauges
from shared.metrics import Metrics
from tests.services.indexing.uploads import Library
from tests.shared.test_metrics import value, values
from tests.support.polling import eventually
from tests.support.serving import in_process


@pytest.fixture
async def client(quiet_queue: None, environment: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """Of a service of the test's own, which has counted nothing."""
    async with in_process(create_app, environment) as (_, client):
        yield client


async def scrape(client: httpx.AsyncClient) -> str:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    return answer.text


async def ended(client: httpx.AsyncClient, outcome: str) -> str:
    """The metrics, once one job has ended so."""

    async def told() -> str | None:
        text = await scrape(client)
        return text if value(text, "quarry_jobs_ended_total", outcome=outcome) == 1 else None

    text = await eventually(told, within=30)
    assert text is not None
    return text


async def test_an_upload_is_measured_until_it_can_be_found(client: httpx.AsyncClient, library: Library) -> None:
    began = datetime.now(UTC)
    await library.upload("Some words.")
    text = await ended(client, "indexed")
    most = (datetime.now(UTC) - began).total_seconds()
    assert value(text, "quarry_upload_to_searchable_seconds_count") == 1
    assert 0 < (value(text, "quarry_upload_to_searchable_seconds_sum") or 0) <= most
    assert value(text, "quarry_upload_to_searchable_seconds_bucket", le="60.0") == 1
    stages = values(text, "quarry_job_stage_seconds_count")
    assert {dict(labels)["stage"]: count for labels, count in stages.items()} == {
        "extracting": 1, "chunking": 1, "embedding": 1, "storing": 1,
    }  # fmt: skip
    assert value(text, "quarry_job_slots") == 6
    assert str(library.tenant_id) not in text


async def test_every_process_tells_of_the_queue_and_whether_it_can(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauges, "FRESH_SECONDS", 0.0)
    text = await scrape(client)
    assert value(text, "quarry_jobs", state="queued") == 0
    assert value(text, "quarry_job_queue_age_seconds") == 0
    assert value(text, "quarry_source_up", source="jobs") == 1


async def test_what_failed_and_was_asked_for_again_is_no_upload_that_somebody_waits_for(
    client: httpx.AsyncClient, library: Library
) -> None:
    document_id = await library.upload(b"%PDF-1.7 nothing", name="scan.pdf", content_type="application/pdf")
    text = await ended(client, "failed")
    assert value(text, "quarry_job_stage_seconds_count", stage="extracting") is None
    library.projects.content[document_id, 1] = b"A text after all."
    await library.retry(document_id)
    text = await ended(client, "indexed")
    assert (await library.job(document_id)).uploaded_at is None
    assert value(text, "quarry_upload_to_searchable_seconds_count") == 0


async def test_a_job_that_is_put_off_is_counted_each_time(
    client: httpx.AsyncClient, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: object) -> None:
        raise VectorStoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "_store", unavailable)
        await library.upload("text")
        await ended(client, "postponed")
    text = await ended(client, "indexed")
    assert value(text, "quarry_upload_to_searchable_seconds_count") == 1


async def test_cancelled_and_lost_jobs_are_told_apart(
    client: httpx.AsyncClient, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = uuid.uuid4()

    async def cancelled(*_: object) -> None:
        await library.cancel(document_id)
        raise CancelRequested

    async def lost(*_: object) -> None:
        raise LeaseLost

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "_store", cancelled)
        await library.upload("text", document_id=document_id)
        await ended(client, "cancelled")
        patch.setattr(Pipeline, "_store", lost)
        await library.upload("text")
        text = await ended(client, "lost")
    assert value(text, "quarry_jobs_ended_total", outcome="cancelled") == 1
    assert value(text, "quarry_jobs_ended_total", outcome="failed") is None


async def test_busy_slots_are_asked_at_every_scrape() -> None:
    metrics, busy = Metrics("indexing"), 0
    JobMetrics(metrics).watch(4, lambda: busy)
    assert value(await metrics.exposition(), "quarry_job_slots_busy") == 0
    busy = 3
    assert value(await metrics.exposition(), "quarry_job_slots_busy") == 3


async def test_a_clock_that_runs_ahead_makes_no_negative_time() -> None:
    metrics = Metrics("indexing")
    jobs = JobMetrics(metrics)
    jobs.searchable(datetime.now(UTC) + timedelta(minutes=1))
    jobs.searchable(None)
    text = await metrics.exposition()
    assert value(text, "quarry_upload_to_searchable_seconds_count") == 1
    assert value(text, "quarry_upload_to_searchable_seconds_sum") == 0
