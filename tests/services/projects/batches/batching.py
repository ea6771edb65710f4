"""What indexing tells of documents, in tests of batches."""

import uuid
from typing import Any

import httpx

from services.projects.documents.handlers import on_job_event
from services.projects.documents.job_events import JobNews
from services.projects.ids import uuid7
from shared.events.envelope import Envelope, Event
from shared.events.indexing import JobCancelled, JobCompleted, JobFailed, JobStarted
from shared.tenancy import Database
from tests.services.projects.callers import Caller, events

KINDS: dict[str, tuple[type[JobNews], dict[str, Any]]] = {
    "indexing": (JobStarted, {}),
    "indexed": (JobCompleted, {"chunk_count": 1}),
    "failed": (JobFailed, {"code": "corrupt", "reason": "It is damaged.", "attempts": 1}),
    "cancelled": (JobCancelled, {}),
}


async def batch_of(caller: Caller, project_id: uuid.UUID, **fields: Any) -> str:
    """The path of a new batch."""
    answer = await caller("POST", f"/v1/projects/{project_id}/batches", json=fields)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


async def uploaded_to(caller: Caller, path: str, *contents: bytes | None, **params: str) -> list[dict[str, Any]]:
    """Documents of a batch, each with a text of its own unless given."""
    project_id, batch_id = path.split("/")[3], path.split("/")[5]
    options = {"batch": batch_id, **params}
    return [await caller.uploaded(uuid.UUID(project_id), content, **options) for content in contents or (None,)]


async def tell(database: Database, tenant_id: uuid.UUID, documents: list[dict[str, Any]], status: str) -> None:
    """What indexing says of a new job of each document, in one transaction, as a consumer handles many events."""
    kind, facts = KINDS[status]
    async with database.tenant(tenant_id) as session:
        for document in documents:
            event: Event = kind.model_validate(
                {
                    "job_id": uuid7(),
                    "project_id": document["project_id"],
                    "document_id": document["id"],
                    "version": document["version"],
                    **facts,
                }
            )
            envelope = Envelope.wrap(
                event,
                event_id=uuid.uuid4(),
                tenant_id=tenant_id,
                sequence=1,
                traceparent=None,
                correlation_id=None,
                causation_id=None,
            )
            await on_job_event(session, event, envelope)  # type: ignore[arg-type]


async def counts(caller: Caller, path: str) -> dict[str, int]:
    """The counts of a batch that are not 0, without the total, which must be their sum."""
    found: dict[str, int] = (await caller("GET", path)).json()["counts"]
    total = found.pop("total")
    assert total == sum(found.values())
    return {state: number for state, number in found.items() if number}


async def completions(database: Database, tenant_id: uuid.UUID) -> list[dict[str, Any]]:
    return [
        envelope.data
        for envelope in await events(database, tenant_id)
        if envelope.type == "projects.batch.completed.v1"
    ]


async def bulk(caller: Caller, project_id: uuid.UUID | str, action: str, **body: Any) -> httpx.Response:
    anything = {"status": ["queued", "indexing", "indexed", "failed", "cancelled"]}
    return await caller(
        "POST", f"/v1/projects/{project_id}/documents/bulk", json={"action": action, "filter": anything, **body}
    )
