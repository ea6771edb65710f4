"""How jobs end when something goes wrong, with the whole service running."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import func, update
from sqlalchemy.exc import DBAPIError

from infra.local.stack import Stack
from services.indexing.embedders.minilm import MiniLM
from services.indexing.jobs import service
from services.indexing.jobs.models import Job
from services.indexing.pipeline.stages import Pipeline
from services.indexing.search.dependencies import SearchResources
from services.indexing.vectors.errors import VectorStoreUnavailable
from services.indexing.vectors.store import ProjectVectors
from shared.redis_clients import stream_of
from shared.tenancy import Database
from tests.services.indexing.uploads import Library
from tests.support.polling import eventually
from tests.support.serving import StartedApp

Running = tuple[StartedApp, httpx.AsyncClient]
Environment = dict[str, str]

pytestmark = pytest.mark.usefixtures("running")


async def ends(library: Library, document_id: uuid.UUID, *states: str, version: int = 1, within: float = 20) -> str:
    """The state in which the job ends, or one that is waited for."""

    async def ended() -> str | None:
        state = await library.state(document_id, version)
        return state if state in (states or ("indexed", "failed", "cancelled")) else None

    found = await eventually(ended, within=within)
    assert found is not None
    return found


async def set_job(database: Database, document_id: uuid.UUID, **values: Any) -> None:
    async with database.system() as session:
        await session.execute(update(Job).where(Job.document_id == document_id).values(**values))


def points(running: Running, library: Library, document_id: uuid.UUID) -> Callable[[], Awaitable[int]]:
    project: ProjectVectors = (
        running[0].resources(SearchResources).search.store.project(library.tenant_id, library.project_id)
    )
    return lambda: project.count(document_id)


async def test_a_damaged_document_fails_at_once_with_a_reason_for_people(library: Library) -> None:
    document_id = await library.upload(b"%PDF-1.7 nothing", name="scan.pdf", content_type="application/pdf")
    assert await ends(library, document_id) == "failed"
    job = await library.job(document_id)
    assert (job.error_code, job.attempts) == ("corrupt_document", 1)
    assert job.error_reason == "The PDF is damaged and cannot be opened."
    assert job.evidence is not None
    assert (job.evidence["stage"], job.evidence["error"]) == ("extracting", "CorruptDocument")
    assert await library.events(document_id) == [("started", 1), ("failed", 2)]


async def test_content_that_is_gone_fails_at_once(library: Library) -> None:
    document_id = uuid.uuid4()
    event = library.uploaded("text", document_id=document_id)
    del library.projects.content[document_id, 1]
    await library.announce(event, sequence=1)
    assert await ends(library, document_id) == "failed"
    assert (await library.job(document_id)).error_code == "content_missing"


async def test_an_error_that_may_pass_is_tried_again_until_attempts_run_out(
    database: Database, library: Library
) -> None:
    document_id = uuid.uuid4()
    library.projects.broken[document_id] = 500
    await library.upload("text", document_id=document_id)

    async def postponed() -> bool:
        job = await library.job(document_id)
        return job.state == "queued" and job.attempts == 1

    await eventually(postponed)
    assert (await library.job(document_id)).error_code == "content_refused"
    await set_job(database, document_id, attempts=7, next_run_at=func.now())
    assert await ends(library, document_id) == "failed"
    job = await library.job(document_id)
    assert (job.error_code, job.attempts) == ("too_many_attempts", 8)
    assert job.error_reason is not None
    assert "8 times" in job.error_reason
    assert job.evidence is not None
    assert "500" in job.evidence["detail"]


async def test_an_outage_of_projects_uses_up_no_attempt_and_the_job_ends_well(library: Library) -> None:
    library.projects.down = True
    try:
        document_id = await library.upload("text")

        async def deferred() -> bool:
            return (await library.job(document_id)).deferrals >= 2

        await eventually(deferred)
        assert (await library.job(document_id)).attempts <= 1
    finally:
        library.projects.down = False
    assert await ends(library, document_id) == "indexed"
    assert (await library.job(document_id)).error_code is None


async def test_an_outage_of_the_vector_store_is_waited_for_with_the_chunks_kept(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(self: ProjectVectors, points: object) -> None:
        raise VectorStoreUnavailable("down")

    with monkeypatch.context() as patch:
        patch.setattr(ProjectVectors, "upsert", unavailable)
        document_id = await library.upload("A sentence to keep.")

        async def deferred() -> bool:
            return (await library.job(document_id)).deferrals >= 1

        await eventually(deferred)
        job = await library.job(document_id)
        assert (job.chunk_count, job.error_code) == (1, "vector_store_unavailable")
    assert await ends(library, document_id) == "indexed"
    assert library.projects.asked[document_id] == 1


async def test_a_document_that_kills_its_workers_is_quarantined(database: Database, library: Library) -> None:
    """As it looks after the last crash: a lease ran out, and no attempt is left."""
    document_id = uuid.uuid4()
    gate = library.projects.held[document_id] = asyncio.Event()
    await library.upload("text", document_id=document_id)
    await ends(library, document_id, "extracting")
    await set_job(database, document_id, attempts=8, fencing_token=50, lease_expires_at=func.now())
    assert await ends(library, document_id) == "failed"
    gate.set()
    job = await library.job(document_id)
    assert (job.error_code, job.attempts) == ("too_many_attempts", 9)
    assert job.evidence is not None
    assert job.evidence["detail"] == "interrupted while extracting"


async def test_an_error_nobody_thought_of_counts_and_is_not_shown(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Pipeline, lease: object, extracted: object) -> None:
        raise RuntimeError("secret detail")

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "_embed", broken)
        document_id = await library.upload("text")

        async def postponed() -> bool:
            job = await library.job(document_id)
            return job.state == "queued" and job.attempts == 1

        await eventually(postponed)
    job = await library.job(document_id)
    assert job.error_code == "internal_error"
    assert "secret" not in str(job.error_reason)
    assert await ends(library, document_id) == "indexed"


# --- stopping --------------------------------------------------------------------------------------------------------


async def test_a_running_job_is_cancelled_while_its_chunks_are_embedded(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding = asyncio.Event()

    async def endless(*_: object, **__: object) -> None:
        embedding.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(MiniLM, "embed", endless)
    document_id = await library.upload("text")
    await asyncio.wait_for(embedding.wait(), 20)
    await library.cancel(document_id)
    assert await ends(library, document_id) == "cancelled"


async def test_a_running_job_is_cancelled_while_it_waits_for_its_content(library: Library) -> None:
    document_id = uuid.uuid4()
    gate = library.projects.held[document_id] = asyncio.Event()
    await library.upload("text", document_id=document_id)
    await ends(library, document_id, "extracting")
    await library.cancel(document_id)
    assert await ends(library, document_id) == "cancelled"
    gate.set()
    assert await library.events(document_id) == [("started", 1), ("cancelled", 2)]
    await library.retry(document_id)
    assert await ends(library, document_id) == "indexed"


async def test_a_deletion_that_races_the_last_step_leaves_nothing(
    running: Running, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted after the points were written and before the switch."""
    stored, proceed = asyncio.Event(), asyncio.Event()
    upsert = ProjectVectors.upsert

    async def slow_upsert(self: ProjectVectors, points: Any) -> None:
        await upsert(self, points)
        stored.set()
        await proceed.wait()

    monkeypatch.setattr(ProjectVectors, "upsert", slow_upsert)
    document_id = await library.upload("Granite from the quarry.")
    await asyncio.wait_for(stored.wait(), 20)
    count = points(running, library, document_id)
    assert await count() == 1
    await library.delete(document_id)
    proceed.set()
    assert await ends(library, document_id) == "cancelled"

    async def gone() -> bool:
        return await count() == 0

    await eventually(gone)
    assert (await library.document(document_id)).live_version is None


async def test_a_lost_lease_ends_the_work_without_a_word(
    database: Database, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = uuid.uuid4()
    gate = library.projects.held[document_id] = asyncio.Event()
    await library.upload("text", document_id=document_id)
    await ends(library, document_id, "extracting")
    # Another worker, which nobody renews: once its lease runs out the job comes back.
    soon = datetime.now(UTC) + timedelta(seconds=2)
    await set_job(database, document_id, fencing_token=7, lease_owner="x", lease_expires_at=soon)
    gate.set()
    assert await ends(library, document_id) == "indexed"
    job = await library.job(document_id)
    assert job.fencing_token == 8
    assert await library.events(document_id) == [("started", 1), ("completed", 2)]


async def test_an_outcome_that_cannot_be_written_is_left_to_the_next_lease(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unwritable(*_: object, **__: object) -> None:
        tried.set()
        raise ConnectionError("Postgres is away")

    tried = asyncio.Event()
    with monkeypatch.context() as patch:
        patch.setattr(service, "fail", unwritable)
        document_id = await library.upload(b"%PDF-1.7 nothing", name="x.pdf", content_type="application/pdf")
        await asyncio.wait_for(tried.wait(), 20)
        assert await library.state(document_id) == "extracting"
    assert await ends(library, document_id) == "failed"
    job = await library.job(document_id)
    assert (job.error_code, job.attempts, job.fencing_token) == ("corrupt_document", 2, 2)


async def test_broken_database_connections_are_survived(stack: Stack, library: Library) -> None:
    """Every connection of the service is cut, again and again, while documents are under way."""
    documents = [await library.upload(f"Text number {number}.") for number in range(12)]
    cut = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename IN ('indexing', 'indexing_system')"
    )

    async def all_indexed() -> bool:
        try:
            return {await library.state(document_id) for document_id in documents} == {"indexed"}
        except DBAPIError:
            return False

    admin = await asyncpg.connect(stack.postgres.admin_dsn())
    try:
        for _ in range(5):
            await admin.execute(cut)
            await eventually(partial(library_answers, library, documents[0]))
    finally:
        await admin.close()
    await eventually(all_indexed, within=40)
    # The test's own connections were cut as well.
    await library.database.engines.dispose()
    for document_id in documents:
        assert await library.events(document_id) == [("started", 1), ("completed", 2)]


async def library_answers(library: Library, document_id: uuid.UUID) -> bool:
    try:
        return bool(await library.state(document_id))
    except DBAPIError:
        return False


async def test_files_are_gone_when_jobs_have_ended(environment: Environment, library: Library) -> None:
    document_id = await library.upload("text")
    broken = await library.upload(b"%PDF-1.7 nothing", name="x.pdf", content_type="application/pdf")
    await ends(library, document_id)
    await ends(library, broken)
    incoming = Path(environment["QUARRY_INDEXING_DATA_DIR"]) / "incoming"

    async def empty() -> bool:
        return await asyncio.to_thread(lambda: not list(incoming.iterdir()))

    await eventually(empty)


async def test_content_is_fetched_with_a_token_of_the_tenant(library: Library) -> None:
    await ends(library, await library.upload("text"))
    assert all(credential.startswith("Bearer ") for credential in library.projects.credentials)


# --- the whole process -----------------------------------------------------------------------------------------------


async def test_an_event_on_the_stream_is_enough(redis_client: Redis, library: Library) -> None:
    document_id = uuid.uuid4()
    event = library.uploaded("From the stream.", document_id=document_id)
    envelope = await library.announce(event, sequence=1)
    await redis_client.xadd(stream_of("projects"), {"event": envelope.to_json()})
    other = uuid.uuid4()
    another = envelope.model_copy(
        update={"id": uuid.uuid4(), "data": library.uploaded("Other.", document_id=other).model_dump(mode="json")}
    )
    await redis_client.xadd(stream_of("projects"), {"event": another.to_json()})

    async def known() -> bool:
        return bool(await library.jobs(other))

    await eventually(known)
    assert await ends(library, document_id) == "indexed"
    assert await ends(library, other) == "indexed"
