import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from services.projects.documents.handlers import HANDLERS, on_job_event
from services.projects.documents.job_events import JobNews
from services.projects.ids import uuid7
from shared.events.envelope import Envelope, Event
from shared.events.indexing import JobCancelled, JobCompleted, JobFailed, JobStarted
from shared.tenancy import Database
from tests.services.projects.callers import Caller, announced, code, events
from tests.support.polling import eventually


class Job:
    """An indexing job as its events tell of it."""

    def __init__(self, database: Database, tenant_id: uuid.UUID, document: dict[str, Any], version: int = 1) -> None:
        self.facts: dict[str, Any] = {
            "job_id": uuid7(),
            "project_id": document["project_id"],
            "document_id": document["id"],
            "version": version,
        }
        self._database = database
        self._tenant_id = tenant_id

    def envelope(self, event: Event, sequence: int) -> Envelope:
        return Envelope.wrap(
            event,
            event_id=uuid.uuid4(),
            tenant_id=self._tenant_id,
            sequence=sequence,
            traceparent=None,
            correlation_id=None,
            causation_id=None,
        )

    async def tells(self, kind: type[JobNews], sequence: int, **facts: Any) -> Envelope:
        event = kind.model_validate({**self.facts, **facts})
        envelope = self.envelope(event, sequence)
        async with self._database.tenant(self._tenant_id) as session:
            await on_job_event(session, event, envelope)
        return envelope


@pytest.fixture
async def document(admin: Caller, project_id: uuid.UUID) -> dict[str, Any]:
    return await admin.uploaded(project_id)


@pytest.fixture
def job(database: Database, tenant_id: uuid.UUID, document: dict[str, Any]) -> Job:
    return Job(database, tenant_id, document)


async def shown(admin: Caller, document: dict[str, Any]) -> dict[str, Any]:
    answer = await admin("GET", f"/v1/projects/{document['project_id']}/documents/{document['id']}")
    found: dict[str, Any] = answer.json()
    return found


async def test_a_document_is_indexing_and_then_indexed(
    admin: Caller, database: Database, tenant_id: uuid.UUID, document: dict[str, Any], job: Job
) -> None:
    async def counts() -> dict[str, int]:
        project = (await admin("GET", f"/v1/projects/{document['project_id']}")).json()
        return {status: count for status, count in project["document_counts"].items() if count}

    assert await counts() == {"queued": 1}
    await job.tells(JobStarted, 2)
    assert (await shown(admin, document))["status"] == "indexing"
    assert await counts() == {"indexing": 1}
    completed = await job.tells(JobCompleted, 5, chunk_count=7)
    now = await shown(admin, document)
    assert (now["status"], now["chunk_count"], now["error"]) == ("indexed", 7, None)
    assert datetime.fromisoformat(now["indexed_at"]) == completed.time
    assert await counts() == {"indexed": 1}
    assert (await announced(database, tenant_id))[1:] == [
        ("document.uploaded", 1), ("document.indexing", 2), ("document.indexed", 3),
    ]  # fmt: skip
    last = (await events(database, tenant_id))[-1].data
    assert (last["job_id"], last["chunk_count"], last["version"]) == (str(job.facts["job_id"]), 7, 1)


async def test_a_document_has_its_title_and_says_if_it_was_read_in_part(
    admin: Caller, database: Database, tenant_id: uuid.UUID, document: dict[str, Any], job: Job
) -> None:
    await job.tells(JobCompleted, 5, chunk_count=7, title="Tides of 1887", partly_read=("scanned_page",))
    told = {"title": "Tides of 1887", "partly_read": ["scanned_page"]}
    now = await shown(admin, document)
    assert {name: now[name] for name in told} == told
    last = (await events(database, tenant_id))[-1].data
    assert {name: last[name] for name in told} == told
    # Indexed again, by another worker, it says what that one found.
    await job.tells(JobCompleted, 6, chunk_count=7)
    now = await shown(admin, document)
    assert (now["title"], now["partly_read"]) == (None, None)


async def test_a_failed_document_says_why_and_can_be_tried_again(
    admin: Caller, database: Database, tenant_id: uuid.UUID, document: dict[str, Any], job: Job
) -> None:
    path = f"/v1/projects/{document['project_id']}/documents/{document['id']}"
    await job.tells(JobStarted, 2)
    assert code(await admin("POST", f"{path}/retry")) == (409, "not_retryable")
    await job.tells(JobFailed, 3, code="corrupt_pdf", reason="The PDF is damaged.", attempts=1)
    now = await shown(admin, document)
    assert (now["status"], now["error"]) == ("failed", {"code": "corrupt_pdf", "reason": "The PDF is damaged."})
    assert code(await admin("POST", f"{path}/cancel")) == (409, "not_cancellable")

    answer = await admin("POST", f"{path}/retry")
    assert (answer.status_code, answer.json()["status"], answer.json()["error"]) == (202, "queued", None)
    await job.tells(JobStarted, 5)
    await job.tells(JobCompleted, 6, chunk_count=1)
    assert (await shown(admin, document))["status"] == "indexed"
    assert [kind for kind, _ in await announced(database, tenant_id)][2:] == [
        "document.indexing", "document.failed", "document.retry_requested", "document.indexing", "document.indexed",
    ]  # fmt: skip
    assert [sequence for _, sequence in await announced(database, tenant_id)][1:] == [1, 2, 3, 4, 5, 6]


async def test_a_cancelled_document_can_be_tried_again(admin: Caller, document: dict[str, Any], job: Job) -> None:
    path = f"/v1/projects/{document['project_id']}/documents/{document['id']}"
    await job.tells(JobStarted, 2)
    assert (await admin("POST", f"{path}/cancel")).json()["status"] == "indexing"
    await job.tells(JobCancelled, 3)
    assert (await shown(admin, document))["status"] == "cancelled"
    assert (await admin("POST", f"{path}/retry")).json()["status"] == "queued"


async def test_late_news_of_a_job_is_dropped(
    admin: Caller, database: Database, tenant_id: uuid.UUID, document: dict[str, Any], job: Job
) -> None:
    await job.tells(JobCompleted, 5, chunk_count=1)
    await job.tells(JobStarted, 2)
    await job.tells(JobCompleted, 5, chunk_count=9)
    now = await shown(admin, document)
    assert (now["status"], now["chunk_count"]) == ("indexed", 1)
    assert [kind for kind, _ in await announced(database, tenant_id)].count("document.indexed") == 1


async def test_only_the_newest_job_counts(
    admin: Caller, database: Database, tenant_id: uuid.UUID, document: dict[str, Any], job: Job
) -> None:
    newer = Job(database, tenant_id, document)
    newer.facts["job_id"] = uuid.UUID(int=job.facts["job_id"].int + 1)
    await newer.tells(JobStarted, 1)
    await job.tells(JobFailed, 9, code="x", reason="y", attempts=1)
    assert (await shown(admin, document))["status"] == "indexing"


async def test_news_of_another_version_or_project_is_dropped(
    admin: Caller, database: Database, tenant_id: uuid.UUID, document: dict[str, Any], job: Job
) -> None:
    await Job(database, tenant_id, document, version=2).tells(JobStarted, 2)
    await job.tells(JobStarted, 2, project_id=uuid.uuid4())
    await Job(database, uuid.uuid4(), document).tells(JobStarted, 2)
    assert (await shown(admin, document))["status"] == "queued"


async def test_nothing_brings_a_deleted_document_back(
    admin: Caller, database: Database, tenant_id: uuid.UUID, document: dict[str, Any], job: Job
) -> None:
    path = f"/v1/projects/{document['project_id']}/documents/{document['id']}"
    await admin("DELETE", path)
    await job.tells(JobCompleted, 5, chunk_count=1)
    assert code(await admin("GET", path)) == (404, "not_found")
    assert (await announced(database, tenant_id))[-1] == ("document.deleted", 2)


async def test_an_event_of_the_stream_is_applied_once(
    admin: Caller, database: Database, tenant_id: uuid.UUID, document: dict[str, Any], job: Job, redis_client: Redis
) -> None:
    event = JobCompleted.model_validate({**job.facts, "chunk_count": 3})
    envelope = job.envelope(event, 2)

    async def status() -> bool:
        return bool((await shown(admin, document))["status"] == "indexed")

    for _ in range(2):
        await redis_client.xadd("events.indexing", {"event": envelope.to_json()})
    await eventually(status)
    follower = job.envelope(JobStarted.model_validate(job.facts), 3)
    await redis_client.xadd("events.indexing", {"event": follower.to_json()})

    async def moved_on() -> bool:
        return bool((await shown(admin, document))["status"] == "indexing")

    await eventually(moved_on)
    assert (await announced(database, tenant_id))[1:] == [
        ("document.uploaded", 1), ("document.indexed", 2), ("document.indexing", 3),
    ]  # fmt: skip
    assert (await events(database, tenant_id))[-1].causationid == str(follower.id)


def test_every_outcome_of_a_job_is_handled() -> None:
    assert {handler.event for handler in HANDLERS} == {JobStarted, JobCompleted, JobFailed, JobCancelled}
    assert len({handler.name for handler in HANDLERS}) == len(HANDLERS)


def test_ids_are_of_version_7_and_follow_time() -> None:
    made = uuid7()
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert abs((made.int >> 80) / 1000 - datetime.now(UTC).timestamp()) < 5
