"""Removing the rows of a deleted document or tenant from Postgres, a bounded number per transaction.

None of them are visible any more: a deleted document is a tombstone, and projects of a deleted tenant are not active.
"""

import uuid

from sqlalchemy import exists, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents.models import Chunk, Document, EmbeddedBatch, VectorChange
from services.indexing.generations.models import Generation, GenerationDocument
from services.indexing.jobs.models import RUNNING, Job
from shared.bounded_deletes import ROWS, delete_some
from shared.errors import Unavailable
from shared.project_access import KnownProject, ProjectAccess


async def erase_document(session: AsyncSession, document: Document, *, points: int) -> bool:
    """Remove some of the chunks and kept embeddings of a deleted document; returns whether none was left.

    Args:
        points: how many it has in the vector store now. The most there were are noted before any is removed, since that
            is not part of a transaction.
    """
    noted, document.removed_points = document.removed_points, max(document.removed_points, points)
    of_document = document.document_id
    if batches := await delete_some(session, EmbeddedBatch, EmbeddedBatch.document_id == of_document):
        document.removed_batches += batches
    elif chunks := await delete_some(session, Chunk, Chunk.document_id == of_document):
        document.removed_chunks += chunks
    else:
        return noted == document.removed_points
    return False


async def is_held(session: AsyncSession, document_id: uuid.UUID) -> bool:
    """Whether a job still has the bytes of a deleted document, or points of it are still being written."""
    for held in (
        exists(Job.id).where(Job.document_id == document_id, Job.state.in_(RUNNING)),
        exists(GenerationDocument.number).where(GenerationDocument.document_id == document_id),
    ):
        if await session.scalar(select(held)):
            return True
    return False


async def erase_tenant(session: AsyncSession) -> bool:
    """Remove some of the rows of the session's tenant, which has a tombstone; returns whether only that is left.

    Raises:
        Unavailable: a job is still running, or points are being written for a generation; both will find that the
            document is deleted, and stop.
    """
    if await _tombstone_some(session) or await delete_some(session, Job, Job.state.not_in(RUNNING)):
        return False
    if await session.scalar(select(exists(Job.id).where(Job.state.in_(RUNNING)))):
        raise Unavailable("jobs of the tenant are still running")
    unclaimed = GenerationDocument.due_at <= func.now()
    if await delete_some(session, GenerationDocument, unclaimed) or await delete_some(session, Generation):
        return False
    if await session.scalar(select(GenerationDocument.document_id).limit(1)) is not None:
        raise Unavailable("points of the tenant are still being written")
    documents_changes = VectorChange.document_id.is_not(None)
    return not (
        await delete_some(session, EmbeddedBatch)
        or await delete_some(session, Chunk)
        or await delete_some(session, VectorChange, documents_changes)
        or await delete_some(session, Document)
        or await delete_some(session, ProjectAccess)
        or await delete_some(session, KnownProject)
    )


async def _tombstone_some(session: AsyncSession) -> bool:
    living = select(Document.tenant_id, Document.document_id).where(Document.deleted.is_(False))
    buried = await session.scalars(
        update(Document)
        .where(tuple_(Document.tenant_id, Document.document_id).in_(living.limit(ROWS)))
        .values(deleted=True, live_version=None, name="", title=None, language=None, attributes={})
        .returning(Document.document_id)
        .execution_options(synchronize_session=False)
    )
    return bool(buried.all())
