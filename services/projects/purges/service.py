"""The end of a deleted document: each store tells when it has removed what it held, and the last one concludes it.

Guarantees: one `DocumentPurged` for each deletion, in whatever order and however often stores tell; not before all
have. What a store tells first counts.
Does not know of documents that were deleted before there were purges, or in a tenant that is being erased.
"""

import uuid
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.documents.models import Document
from services.projects.purges.models import DocumentPurge
from shared import outbox
from shared.events.indexing import IndexPurged
from shared.events.notifier import FeedPurged
from shared.events.projects import DocumentPurged


def begin(session: AsyncSession, document_id: uuid.UUID, *, versions: int, blobs: int) -> None:
    """Expect every store to tell, and `blobs` blobs to be settled."""
    session.add(DocumentPurge(document_id=document_id, versions=versions, blobs_waiting=blobs))


async def settle_blob(session: AsyncSession, document_id: uuid.UUID, *, removed: int | None) -> None:
    """One of its blobs is removed, of so many bytes; None: it stayed for others, or counts for another document."""
    purge = await _open(session, document_id)
    if purge is None:
        return
    purge.blobs_waiting -= 1
    if removed is None:
        purge.shared_blobs += 1
    else:
        purge.blobs, purge.bytes = purge.blobs + 1, purge.bytes + removed
    await _conclude(session, purge)


async def note_index(session: AsyncSession, event: IndexPurged) -> None:
    purge = await _open(session, event.document_id)
    if purge is not None and purge.indexing is None:
        purge.indexing = event.model_dump(include={"points", "chunks", "batches"})
        await _conclude(session, purge)


async def note_feed(session: AsyncSession, event: FeedPurged) -> None:
    purge = await _open(session, event.document_id)
    if purge is not None and purge.notifier is None:
        purge.notifier = event.model_dump(include={"entries"})
        await _conclude(session, purge)


async def _open(session: AsyncSession, document_id: uuid.UUID) -> DocumentPurge | None:
    """The purge, locked, unless it is concluded."""
    statement = select(DocumentPurge).where(DocumentPurge.document_id == document_id, DocumentPurge.purged_at.is_(None))
    return await session.scalar(statement.with_for_update().execution_options(populate_existing=True))


async def _conclude(session: AsyncSession, purge: DocumentPurge) -> None:
    if purge.blobs_waiting > 0 or purge.indexing is None or purge.notifier is None:
        return
    tombstone = select(Document).where(Document.id == purge.document_id).with_for_update(key_share=True)
    document = (await session.scalars(tombstone.execution_options(populate_existing=True))).one()
    purge.purged_at = datetime.now(UTC)
    document.revision += 1
    own = {
        "versions": purge.versions,
        "blobs": purge.blobs,
        "bytes": purge.bytes,
        "shared_blobs": purge.shared_blobs,
    }
    event = DocumentPurged(
        project_id=document.project_id,
        document_id=document.id,
        version=document.version,
        removed={"projects": own, "indexing": purge.indexing, "notifier": purge.notifier},
    )
    outbox.publish(session, event, sequence=document.revision)
    await session.flush()
