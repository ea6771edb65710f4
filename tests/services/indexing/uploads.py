"""Documents as the projects service would announce them, for one tenant and project."""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from services.indexing.agents.runs.handlers import handlers as run_handlers
from services.indexing.documents.handlers import handlers
from services.indexing.documents.models import Document
from services.indexing.generations import repository as generations
from services.indexing.generations.identity import FIRST
from services.indexing.generations.models import Generation
from services.indexing.jobs.models import Job
from shared.events.envelope import Envelope, Event
from shared.events.projects import (
    DocumentCancelRequested,
    DocumentDeleted,
    DocumentRetryRequested,
    DocumentUpdated,
    DocumentUploaded,
    Lane,
)
from shared.handlers import Handler
from shared.inbox import claim
from shared.outbox import OutboxEvent, caused_by_event
from shared.tenancy import Database
from tests.services.indexing.projects_double import ProjectsDouble


def _silent() -> None:
    """Nobody is woken: workers find what they find."""


@dataclass
class Library:
    """A project whose documents are announced by calling the handlers, as the consumer does."""

    database: Database
    projects: ProjectsDouble
    tenant_id: uuid.UUID
    project_id: uuid.UUID = field(default_factory=uuid.uuid4)
    handlers: Sequence[Handler[Any]] = field(
        default_factory=lambda: (
            *handlers(wake=_silent, interrupt=_silent),
            *run_handlers(wake=_silent, interrupt=_silent),
        )
    )

    def __post_init__(self) -> None:
        self.projects.access.setdefault(self.project_id, {})

    async def announce(self, event: Event, *, sequence: int, event_id: uuid.UUID | None = None) -> Envelope:
        envelope = Envelope.wrap(
            event,
            event_id=event_id or uuid.uuid4(),
            tenant_id=self.tenant_id,
            sequence=sequence,
            traceparent=None,
            correlation_id="request-1",
            causation_id=None,
        )
        for handler in self.handlers:
            if handler.event is not type(event):
                continue
            async with self.database.tenant(self.tenant_id) as session:
                caused_by_event(session, envelope)
                if await claim(session, [(envelope.id, handler.name)]):
                    await handler.call(session, event, envelope)
        return envelope

    async def upload(
        self,
        content: bytes | str,
        *,
        document_id: uuid.UUID | None = None,
        version: int = 1,
        sequence: int = 1,
        name: str = "note.txt",
        content_type: str = "text/plain",
        metadata: dict[str, Any] | None = None,
        lane: Lane = "interactive",
    ) -> uuid.UUID:
        document_id = document_id or uuid.uuid4()
        event = self.uploaded(
            content,
            document_id=document_id,
            version=version,
            name=name,
            content_type=content_type,
            metadata=metadata,
            lane=lane,
        )
        await self.announce(event, sequence=sequence)
        return document_id

    def uploaded(
        self,
        content: bytes | str,
        *,
        document_id: uuid.UUID,
        version: int = 1,
        name: str = "note.txt",
        content_type: str = "text/plain",
        metadata: dict[str, Any] | None = None,
        lane: Lane = "interactive",
    ) -> DocumentUploaded:
        data = content.encode() if isinstance(content, str) else content
        self.projects.content[document_id, version] = data
        return DocumentUploaded(
            project_id=self.project_id,
            document_id=document_id,
            version=version,
            name=name,
            content_type=content_type,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            metadata=metadata or {},
            lane=lane,
            created_at=datetime.now(UTC),
        )

    async def update(self, document_id: uuid.UUID, *, sequence: int, name: str, metadata: dict[str, Any]) -> None:
        event = DocumentUpdated(
            project_id=self.project_id, document_id=document_id, version=1, name=name, metadata=metadata
        )
        await self.announce(event, sequence=sequence)

    async def delete(self, document_id: uuid.UUID, *, sequence: int = 9, version: int = 1) -> None:
        event = DocumentDeleted(project_id=self.project_id, document_id=document_id, version=version)
        await self.announce(event, sequence=sequence)

    async def cancel(self, document_id: uuid.UUID, *, sequence: int = 2, version: int = 1) -> None:
        event = DocumentCancelRequested(project_id=self.project_id, document_id=document_id, version=version)
        await self.announce(event, sequence=sequence)

    async def retry(self, document_id: uuid.UUID, *, sequence: int = 3, version: int = 1) -> None:
        event = DocumentRetryRequested(project_id=self.project_id, document_id=document_id, version=version)
        await self.announce(event, sequence=sequence)

    # --- what became of it -------------------------------------------------------------------------------------------

    async def document(self, document_id: uuid.UUID) -> Document:
        async with self.database.tenant(self.tenant_id) as session:
            return (await session.scalars(select(Document).where(Document.document_id == document_id))).one()

    async def generation(self) -> int:
        """Number of the project's active generation; its first one, if it has none."""
        async with self.database.tenant(self.tenant_id) as session:
            return (await generations.begun(session, self.project_id, FIRST)).number

    async def generations(self) -> dict[int, Generation]:
        async with self.database.tenant(self.tenant_id) as session:
            return {row.number: row for row in await generations.of_project(session, self.project_id)}

    async def jobs(self, document_id: uuid.UUID) -> list[Job]:
        async with self.database.tenant(self.tenant_id) as session:
            rows = await session.scalars(select(Job).where(Job.document_id == document_id).order_by(Job.version))
            return list(rows)

    async def job(self, document_id: uuid.UUID, version: int = 1) -> Job:
        (found,) = [job for job in await self.jobs(document_id) if job.version == version]
        return found

    async def state(self, document_id: uuid.UUID, version: int = 1) -> str:
        return (await self.job(document_id, version)).state

    async def events(self, document_id: uuid.UUID) -> list[tuple[str, int]]:
        """What was published about the document's jobs: kind and sequence, in order."""
        async with self.database.tenant(self.tenant_id) as session:
            rows = await session.scalars(select(OutboxEvent).order_by(OutboxEvent.position))
            mine = [row for row in rows if row.data.get("document_id") == str(document_id)]
            return [(row.type.split(".")[2], row.sequence) for row in mine]
