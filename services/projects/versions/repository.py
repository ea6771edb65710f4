"""SQL of versions that were replaced. Which project a document belongs to is known by then."""

import uuid
from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.versions.models import DocumentVersion


async def by_number(session: AsyncSession, *, document_id: uuid.UUID, number: int) -> DocumentVersion | None:
    return await session.scalar(
        select(DocumentVersion).where(DocumentVersion.document_id == document_id, DocumentVersion.number == number)
    )


async def page_for_document(
    session: AsyncSession, *, document_id: uuid.UUID, before: int, count: int
) -> Sequence[DocumentVersion]:
    """Versions with a number below `before`, newest first."""
    statement = select(DocumentVersion).where(
        DocumentVersion.document_id == document_id, DocumentVersion.number < before
    )
    return (await session.scalars(statement.order_by(DocumentVersion.number.desc()).limit(count))).all()


async def remove_all(session: AsyncSession, *, document_id: uuid.UUID) -> list[tuple[uuid.UUID, int]]:
    """Remove the document's replaced versions; returns the blob and size of each."""
    removed = await session.execute(
        delete(DocumentVersion)
        .where(DocumentVersion.document_id == document_id)
        .returning(DocumentVersion.blob_id, DocumentVersion.size)
        .execution_options(synchronize_session=False)
    )
    return [(row[0], row[1]) for row in removed]
