"""A document's status, in its row and in the counts of its batch."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.batches import counting
from services.projects.documents.models import Document, DocumentStatus


def enter(session: AsyncSession, document: Document, status: DocumentStatus) -> None:
    """Give a locked document another status."""
    counting.move(session, document.batch_id, document.status, status)
    document.status = status


def bury(session: AsyncSession, document: Document) -> None:
    """Count a locked document that is being deleted."""
    counting.move(session, document.batch_id, document.status, "deleted")
