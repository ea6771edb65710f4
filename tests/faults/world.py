"""A small world in which every invariant holds, written straight into the stores, for tests that break it.

One tenant, one project, a document that was indexed and one that was cancelled and deleted.
"""

import hashlib
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson
from redis.asyncio import Redis

from shared.events.subscriptions import SUBSCRIBERS
from shared.redis_clients import stream_of
from tests.faults.ledger import DocumentEntry, Ledger, ProjectEntry
from tests.faults.listeners import Listener
from tests.faults.subscriptions import subscriptions
from tests.support.sse import Frame

CONTENT: Final = b"A note."

_OUTBOX: Final = {
    "projects": "INSERT INTO projects.outbox (id, tenant_id, type, subject, sequence, data, published_at, entry_id) "
    "VALUES ($1, $2, $3, $4, $5, $6, now(), '1-1')",
    "indexing": "INSERT INTO indexing.outbox (id, tenant_id, type, subject, sequence, data, published_at, entry_id) "
    "VALUES ($1, $2, $3, $4, $5, $6, now(), '1-1')",
}
_INBOX: Final = {
    "projects": "INSERT INTO projects.inbox (tenant_id, event_id, handler) VALUES ($1, $2, $3)",
    "indexing": "INSERT INTO indexing.inbox (tenant_id, event_id, handler) VALUES ($1, $2, $3)",
    "notifier": "INSERT INTO notifier.inbox (tenant_id, event_id, handler) VALUES ($1, $2, $3)",
}
_TYPES: Final = {
    "projects.document.uploaded.v1": "document.uploaded",
    "projects.document.indexing.v1": "document.indexing",
    "projects.document.indexed.v1": "document.indexed",
    "projects.document.deleted.v1": "document.deleted",
    "projects.document.cancelled.v1": "document.cancelled",
    "projects.document.purged.v1": "document.purged",
}


@dataclass(slots=True)
class World:
    """Ids of what there is."""

    tenant: uuid.UUID = field(default_factory=uuid.uuid4)
    project: uuid.UUID = field(default_factory=uuid.uuid4)
    document: uuid.UUID = field(default_factory=uuid.uuid4)
    job: uuid.UUID = field(default_factory=uuid.uuid4)
    gone: uuid.UUID = field(default_factory=uuid.uuid4)
    gone_job: uuid.UUID = field(default_factory=uuid.uuid4)
    told: list[str] = field(default_factory=list)

    @property
    def blob(self) -> str:
        return f"{self.tenant}/{self.project}/{self.document}/1"

    def ledger(self) -> Ledger:
        """What a client would believe that made this world."""
        ledger = Ledger()
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        ledger.projects[self.project] = ProjectEntry(self.project, self.tenant, {"Research"})
        for document, name, deleted in ((self.document, "note.txt", False), (self.gone, "gone.txt", True)):
            ledger.documents[document] = DocumentEntry(
                document, self.tenant, self.project, sha256, {name}, {deleted}, word="note"
            )
            ledger.expect(document, "projects.document.uploaded.v1", done=True, unanswered=0)
        return ledger

    def listener(self) -> Listener:
        """A client that heard all of it."""
        frames = [Frame(event, {}, number) for number, event in enumerate(self.told, 1)]
        return Listener(self.tenant, self.tenant, since=0, frames=frames, connections=1)


async def build(postgres: asyncpg.Connection, redis: Redis, blobs: Path) -> World:
    world = World()
    for stream, groups in ((stream_of(producer), groups) for producer, groups in SUBSCRIBERS.items()):
        for group in groups:
            await redis.xgroup_create(stream, group, "$", mkstream=True)
    await _aggregates(postgres, world)
    for event_type, subject, sequence, job in (
        ("projects.project.created.v1", world.project, 1, None),
        ("projects.document.uploaded.v1", world.document, 1, None),
        ("projects.document.uploaded.v1", world.gone, 1, None),
        ("indexing.job.started.v1", world.job, 1, world.job),
        ("projects.document.indexing.v1", world.document, 2, None),
        ("indexing.job.completed.v1", world.job, 2, world.job),
        ("projects.document.indexed.v1", world.document, 3, None),
        ("indexing.job.cancelled.v1", world.gone_job, 1, world.gone_job),
        ("projects.document.cancelled.v1", world.gone, 2, None),
        ("projects.document.deleted.v1", world.gone, 3, None),
        ("projects.document.purged.v1", world.gone, 4, None),
    ):
        await _event(postgres, redis, world, event_type, subject, sequence, job)
    for feed in (world.project, world.tenant):
        await postgres.execute(
            "INSERT INTO notifier.feeds (tenant_id, feed_id, last_sequence) VALUES ($1, $2, $3)",
            *(world.tenant, feed, len(world.told)),
        )
    for stream, groups in ((stream_of(producer), groups) for producer, groups in SUBSCRIBERS.items()):
        for group in groups:
            await redis.xgroup_setid(stream, group, "$")
    place = blobs / world.blob
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    return world


async def _aggregates(postgres: asyncpg.Connection, world: World) -> None:
    await postgres.execute(
        "INSERT INTO projects.projects (tenant_id, id, name, description, metadata, revision) "
        "VALUES ($1, $2, 'Research', '', '{}', 1)",
        *(world.tenant, world.project),
    )
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    for document, job, status, job_sequence, chunks, name in (
        (world.document, world.job, "indexed", 2, 1, "note.txt"),
        (world.gone, world.gone_job, "cancelled", 1, None, ""),
    ):
        await postgres.execute(
            "INSERT INTO projects.documents (tenant_id, id, project_id, name, metadata, content_type, size, sha256, "
            "version, revision, status, job_id, job_sequence, chunk_count, live_version, deleted_at) "
            "VALUES ($1, $2, $3, $4::text, '{}', 'text/plain', 7, $5, 1, CASE WHEN $4::text <> '' THEN 3 ELSE 4 END, "
            "$6, $7, $8, $9, CASE WHEN $4::text <> '' THEN 1 END, "
            "CASE WHEN $4::text = '' THEN now() END)",
            *(world.tenant, document, world.project, name, sha256, status, job, job_sequence, chunks),
        )
        await postgres.execute(
            "INSERT INTO indexing.documents (tenant_id, document_id, project_id, version, live_version, deleted, name, "
            "content_type, metadata, sequence, created_at) "
            "VALUES ($1, $2, $3, 1, $4::int, $4::int IS NULL, $5, 'text/plain', '{}', 1, now())",
            *(world.tenant, document, world.project, chunks, name),
        )
        await postgres.execute(
            "INSERT INTO indexing.jobs (tenant_id, id, project_id, document_id, version, lane, state, revision) "
            "VALUES ($1, $2, $3, $4, 1, 'interactive', $5, $6)",
            *(world.tenant, job, world.project, document, status, job_sequence),
        )
    await postgres.execute(
        "INSERT INTO projects.document_purges (tenant_id, document_id, versions, blobs_waiting, indexing, notifier, "
        "purged_at) VALUES ($1, $2, 1, 0, '{}', '{}', now())",
        *(world.tenant, world.gone),
    )
    await postgres.execute(
        "INSERT INTO indexing.chunks (tenant_id, project_id, document_id, version, chunk_index, start_offset, "
        "end_offset, text) VALUES ($1, $2, $3, 1, 0, 0, 7, 'A note.')",
        *(world.tenant, world.project, world.document),
    )


async def _event(
    postgres: asyncpg.Connection,
    redis: Redis,
    world: World,
    event_type: str,
    subject: uuid.UUID,
    sequence: int,
    job: uuid.UUID | None,
) -> None:
    event_id, producer = uuid.uuid4(), event_type.partition(".")[0]
    data: dict[str, Any] = {"project_id": str(world.project)} | ({"job_id": str(job)} if job else {})
    if event_type in _TYPES:
        data["document_id"] = str(subject)
    text = orjson.dumps(data).decode()
    await postgres.execute(_OUTBOX[producer], event_id, world.tenant, event_type, str(subject), sequence, text)
    for subscription in subscriptions():
        if subscription.type == event_type:
            await postgres.execute(_INBOX[subscription.service], world.tenant, event_id, subscription.handler)
    if event_type in _TYPES:
        world.told.append(_TYPES[event_type])
        await postgres.execute(
            "INSERT INTO notifier.feed_events (tenant_id, project_id, sequence, tenant_sequence, event_id, type, time, "
            "subject_id, revision, data) VALUES ($1, $2, $3, $3, $4, $5, now(), $6, $7, '{}')",
            *(world.tenant, world.project, len(world.told), event_id, _TYPES[event_type], subject, sequence),
        )
    envelope = {"id": str(event_id), "tenantid": str(world.tenant), "type": event_type}
    await redis.xadd(stream_of(producer), {"event": orjson.dumps(envelope)})
