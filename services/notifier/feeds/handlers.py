"""What clients see of the events of other services."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.notifier.feeds import repository, service
from services.notifier.feeds.models import DOCUMENT_DELETED, DOCUMENT_PURGED
from services.notifier.feeds.repository import NewEvent
from services.notifier.feeds.service import Announce, Retention
from shared.events.envelope import Envelope
from shared.events.identity import TenantDeleted
from shared.events.indexing import IndexPurged
from shared.events.projects import (
    BatchCompleted,
    DocumentCancelled,
    DocumentDeleted,
    DocumentEvent,
    DocumentFailed,
    DocumentIndexed,
    DocumentIndexing,
    DocumentPurged,
    DocumentUpdated,
    DocumentUploaded,
    ProjectDeleted,
    ProjectEvent,
    ProjectMemberChanged,
    ProjectUpdated,
)
from shared.handlers import Handler
from shared.telemetry import current_traceparent, span


@dataclass(frozen=True, slots=True)
class Shown:
    """How an event appears in a feed: under which type, and with which of its facts."""

    type: str
    facts: frozenset[str]


def _shown(type: str, *facts: str) -> Shown:
    return Shown(type, frozenset({"actor_id", *facts}))


_NEW_VERSION: Final = "document.version_added"
SHOWN: Final[dict[type[DocumentEvent | ProjectEvent], Shown]] = {
    DocumentUploaded: _shown("document.uploaded", "version", "name", "content_type", "size", "created_at"),
    DocumentIndexing: _shown("document.indexing", "version", "job_id"),
    DocumentIndexed: _shown("document.indexed", "version", "job_id", "chunk_count", "title", "partly_read"),
    DocumentFailed: _shown("document.failed", "version", "job_id", "code", "reason"),
    DocumentCancelled: _shown("document.cancelled", "version", "job_id"),
    DocumentUpdated: _shown("document.updated", "version", "name"),
    DocumentDeleted: _shown(DOCUMENT_DELETED, "version"),
    BatchCompleted: _shown("batch.completed", "batch_id", "name", "indexed", "failed", "cancelled", "deleted"),
    DocumentPurged: _shown(DOCUMENT_PURGED, "version", "removed"),
    ProjectUpdated: _shown("project.updated", "name"),
    ProjectDeleted: _shown("project.deleted"),
    ProjectMemberChanged: _shown("member.changed", "user_id", "role"),
}


def feed_handlers(retention: Retention, announce: Announce) -> Sequence[Handler[Any]]:
    """Handlers that append what clients may see, and write the tombstone of a deleted tenant.

    Args:
        announce: called after the commit of each append; must not block.
    """

    async def append(session: AsyncSession, event: DocumentEvent | ProjectEvent, envelope: Envelope) -> None:
        with span("sse append", attributes={"quarry.event.type": envelope.type}):
            await service.append(
                session,
                _new_event(event, envelope, current_traceparent()),
                retention=retention,
                announce=announce,
            )

    appending: list[Handler[Any]] = [
        Handler(event=event, call=append, name=f"notifier.feed.{event.type}") for event in SHOWN
    ]
    return (
        *appending,
        Handler(event=IndexPurged, call=_on_index_purged, name="notifier.on_index_purged"),
        Handler(event=TenantDeleted, call=_forget_tenant, name="notifier.forget_tenant"),
    )


def _new_event(event: DocumentEvent | ProjectEvent, envelope: Envelope, traceparent: str | None) -> NewEvent:
    shown = SHOWN[type(event)]
    data = {"document_id": None, **event.model_dump(mode="json", include={"document_id", *shown.facts})}
    return NewEvent(
        project_id=event.project_id,
        event_id=envelope.id,
        type=_NEW_VERSION if isinstance(event, DocumentUploaded) and event.version > 1 else shown.type,
        time=envelope.time,
        subject_id=_subject_of(event),
        revision=envelope.sequence,
        data={**data, "revision": envelope.sequence},
        traceparent=traceparent,
    )


def _subject_of(event: DocumentEvent | ProjectEvent) -> uuid.UUID:
    """What the event is about: no event of a document is appended after its deletion, but that it is purged."""
    if isinstance(event, DocumentEvent):
        return event.document_id
    if isinstance(event, BatchCompleted):
        return event.batch_id
    return event.user_id if isinstance(event, ProjectMemberChanged) else event.project_id


async def _on_index_purged(session: AsyncSession, event: IndexPurged, envelope: Envelope) -> None:
    await service.note_purge(
        session, event.project_id, event.document_id, revision=envelope.sequence, index_purged=True
    )


async def _forget_tenant(session: AsyncSession, event: TenantDeleted, envelope: Envelope) -> None:
    if event.tenant_id != envelope.tenantid:
        raise ValueError("the event names another tenant than its envelope")
    await repository.tombstone_tenant(session)
