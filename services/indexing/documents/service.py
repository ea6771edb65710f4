"""Applies events about documents, in whatever order they arrive.

A document's row carries the newest facts by the owner's sequence. Once deleted it stays a
tombstone that nothing revives.
"""

import uuid

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents import arrivals, repository
from services.indexing.documents.errors import UnknownDocument
from services.indexing.jobs import repository as jobs_repository
from services.indexing.jobs import service as jobs
from shared.events.envelope import Envelope
from shared.events.projects import DocumentDeleted, DocumentUpdated, DocumentUploaded
from shared.project_access import KnownProject


async def apply_upload(session: AsyncSession, event: DocumentUploaded, envelope: Envelope) -> None:
    """A version to index, unless the document or its tenant is deleted or it already has a newer one. A linked document
    is nothing to search: the one it is linked to is."""
    if event.linked_to is not None or not await repository.tenant_exists(session):
        return
    document = await repository.upsert_from_event(
        session,
        document_id=event.document_id,
        project_id=event.project_id,
        version=event.version,
        name=event.name,
        content_type=event.content_type,
        metadata=event.metadata,
        sequence=envelope.sequence,
        created_at=event.created_at,
    )
    if document.deleted or document.version > event.version:
        return
    await jobs.enqueue(
        session,
        project_id=event.project_id,
        document_id=event.document_id,
        version=event.version,
        lane=event.lane,
        size=event.size,
        sha256=event.sha256,
        uploaded_at=envelope.time,
    )


async def apply_update(session: AsyncSession, event: DocumentUpdated, envelope: Envelope) -> None:
    """Another name or metadata; search shows it at once, and finds and filters by it shortly after.

    Raises:
        UnknownDocument: the upload event has not arrived yet.
    """
    if event.linked_to is not None:
        return
    document = await repository.locked(session, event.document_id)
    if document is None and await repository.tenant_exists(session):
        raise UnknownDocument
    if document is None or document.deleted or envelope.sequence <= document.sequence:
        return
    changed = document.described != (event.name, event.metadata)
    document.name, document.attributes, document.sequence = event.name, event.metadata, envelope.sequence
    if changed:
        await repository.enqueue_vector_change(session, document.document_id, describe=True)


async def forget(session: AsyncSession, event: DocumentDeleted, envelope: Envelope) -> None:
    """Remove a document from search with this transaction, from the tables and the vector store soon after."""
    if not await repository.tenant_exists(session):
        return
    await repository.tombstone(
        session,
        document_id=event.document_id,
        project_id=event.project_id,
        version=event.version,
        sequence=envelope.sequence,
        at=envelope.time,
    )
    arrivals.announce(session, event.document_id)
    await jobs.stop_unfinished(session, event.document_id)
    await jobs_repository.forget_titles(session, event.document_id)
    await repository.enqueue_vector_change(session, event.document_id)


async def forget_tenant(session: AsyncSession, tenant_id: uuid.UUID) -> None:
    """Hide everything of the session's tenant from now on; it is removed in pieces (`documents.erasure`)."""
    if session.info["tenant_id"] != tenant_id:
        raise ValueError("the event names another tenant than its envelope")
    await repository.tombstone_tenant(session)
    await session.execute(update(KnownProject).values(active=False).execution_options(synchronize_session=False))
    await jobs_repository.request_stop(session)
    await repository.enqueue_vector_change(session, None)
