"""SQL of resumable uploads."""

import uuid
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.uploads.errors import UploadTakenOver
from services.projects.uploads.models import Upload, UploadExpiry
from shared.errors import NotFound
from shared.work_queue import WorkQueue

EXPIRIES: Final = WorkQueue(UploadExpiry, due_at=UploadExpiry.due_at, claim=timedelta(seconds=60))
_UNSYNCHRONIZED: Final = {"synchronize_session": False}


async def by_id(session: AsyncSession, *, project_id: uuid.UUID, upload_id: uuid.UUID) -> Upload | None:
    return await session.scalar(select(Upload).where(Upload.project_id == project_id, Upload.id == upload_id))


async def locked(session: AsyncSession, *, upload_id: uuid.UUID) -> Upload | None:
    """As it is now, until the transaction ends."""
    return await session.scalar(select(Upload).where(Upload.id == upload_id).with_for_update())


async def written(session: AsyncSession, upload: Upload) -> Upload:
    """The row of an upload that the caller writes to, locked.

    Raises:
        NotFound, UploadTakenOver: it was removed, or the caller is not its writer any more.
    """
    row = await locked(session, upload_id=upload.id)
    if row is None:
        raise NotFound
    if row.writer != upload.writer:
        raise UploadTakenOver(retry_after=1)
    return row


async def add(session: AsyncSession, upload: Upload, *, lasting: timedelta) -> None:
    """Store a new upload, which expires after `lasting`."""
    upload.expires_at = datetime.now(UTC) + lasting
    session.add(upload)
    session.add(UploadExpiry(upload_id=upload.id, due_at=upload.expires_at))
    await session.flush()


async def renew(session: AsyncSession, upload: Upload, *, lasting: timedelta) -> None:
    """Let a locked upload expire later. Takes the claim from a process that is about to remove it."""
    upload.expires_at = datetime.now(UTC) + lasting
    statement = update(UploadExpiry).where(UploadExpiry.upload_id == upload.id).values(due_at=upload.expires_at)
    await session.execute(statement, execution_options=_UNSYNCHRONIZED)


async def remove(session: AsyncSession, upload: Upload) -> None:
    await session.delete(upload)
    await session.flush()
    statement = delete(UploadExpiry).where(UploadExpiry.upload_id == upload.id)
    await session.execute(statement, execution_options=_UNSYNCHRONIZED)


async def unfinished(session: AsyncSession, upload_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Which of them may still go on."""
    statement = select(Upload.id).where(Upload.id.in_(upload_ids), Upload.document_id.is_(None))
    return set(await session.scalars(statement))
