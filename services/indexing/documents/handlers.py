"""Applies events about documents and their jobs to indexing's tables."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents import service
from services.indexing.jobs import service as jobs
from shared.events.envelope import Envelope, Event
from shared.events.identity import TenantDeleted
from shared.events.projects import (
    DocumentCancelRequested,
    DocumentDeleted,
    DocumentRetryRequested,
    DocumentUpdated,
    DocumentUploaded,
)
from shared.handlers import Handler
from shared.tenancy import after_commit

Signal = Callable[[], None]
Call = Callable[[AsyncSession, Any, Envelope], Awaitable[None]]


def handlers(*, wake: Signal, interrupt: Signal) -> Sequence[Handler[Any]]:
    """The handlers of this service. After the commit they call `wake` to start work in this process, and `interrupt`
    where work under way may have to stop."""

    def handler(event: type[Event], call: Call, name: str, *signals: Signal) -> Handler[Any]:
        async def handle(session: AsyncSession, event: Any, envelope: Envelope) -> None:
            await call(session, event, envelope)
            for signal in signals:
                after_commit(session, signal)

        return Handler(event, handle, f"indexing.{name}")

    return (
        handler(DocumentUploaded, service.apply_upload, "on_document_uploaded", wake),
        handler(DocumentUpdated, service.apply_update, "on_document_updated", wake),
        handler(DocumentDeleted, service.forget, "on_document_deleted", wake, interrupt),
        handler(DocumentCancelRequested, _on_cancel_requested, "on_cancel_requested", wake, interrupt),
        handler(DocumentRetryRequested, _on_retry_requested, "on_retry_requested", wake),
        handler(TenantDeleted, _on_tenant_deleted, "on_tenant_deleted", wake, interrupt),
    )


async def _on_cancel_requested(session: AsyncSession, event: DocumentCancelRequested, envelope: Envelope) -> None:
    await jobs.request_cancel(
        session,
        project_id=event.project_id,
        document_id=event.document_id,
        version=event.version,
        sequence=envelope.sequence,
    )


async def _on_retry_requested(session: AsyncSession, event: DocumentRetryRequested, envelope: Envelope) -> None:
    await jobs.request_retry(session, document_id=event.document_id, version=event.version, sequence=envelope.sequence)


async def _on_tenant_deleted(session: AsyncSession, event: TenantDeleted, _envelope: Envelope) -> None:
    await service.forget_tenant(session, event.tenant_id)
