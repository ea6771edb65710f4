"""Events as other services publish them, and appending without a stream."""

import uuid
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from services.notifier.feeds import erasure, service
from services.notifier.feeds.models import DeletedTenant
from services.notifier.feeds.repository import NewEvent
from services.notifier.feeds.service import Announcement, Retention
from shared.events.projects import DocumentIndexed, DocumentUploaded
from shared.tenancy import Database
from tests.support.polling import eventually

RETENTION = Retention(keep_events=10_000, keep_for=timedelta(days=7))


def uploaded(project_id: uuid.UUID, document_id: uuid.UUID | None = None, **facts: object) -> DocumentUploaded:
    values = {
        "project_id": project_id,
        "document_id": document_id or uuid.uuid4(),
        "version": 1,
        "name": "notes.md",
        "content_type": "text/markdown",
        "size": 2048,
        "sha256": "0" * 64,
        "metadata": {"private": "stays out of feeds"},
        "lane": "interactive",
        "created_at": datetime.now(UTC),
        **facts,
    }
    return DocumentUploaded.model_validate(values)


def indexed(project_id: uuid.UUID, document_id: uuid.UUID) -> DocumentIndexed:
    return DocumentIndexed(
        project_id=project_id, document_id=document_id, version=1, job_id=uuid.uuid4(), chunk_count=3
    )


def new_event(
    project_id: uuid.UUID,
    *,
    subject_id: uuid.UUID | None = None,
    revision: int = 1,
    type: str = "document.uploaded",
) -> NewEvent:
    return NewEvent(
        project_id=project_id,
        event_id=uuid.uuid4(),
        type=type,
        time=datetime.now(UTC),
        subject_id=subject_id or uuid.uuid4(),
        revision=revision,
        data={"document_id": None},
        traceparent=None,
    )


def unheard(announcement: Announcement, event: NewEvent) -> None:
    """An announcement that is lost."""


async def append(
    database: Database,
    tenant_id: uuid.UUID,
    event: NewEvent,
    *,
    retention: Retention = RETENTION,
) -> None:
    """Append in a transaction of its own, and tell nobody."""
    async with database.tenant(tenant_id) as session:
        await service.append(session, event, retention=retention, announce=unheard)


async def erase(database: Database, tenant_id: uuid.UUID) -> None:
    """Have a deleted tenant's rows removed: by this process, or by a replica that has claimed them already."""

    async def erased() -> bool:
        await erasure.erase_one(database)
        async with database.tenant(tenant_id) as session:
            return await session.scalar(select(DeletedTenant.due_at)) is None

    await eventually(erased)
