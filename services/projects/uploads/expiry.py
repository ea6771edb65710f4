"""How an upload ends without becoming a document, and the background work that removes those that have expired.

Guarantees: the row of an unfinished upload goes in one transaction with what it has reserved, and its bytes soon after
(`services.projects.documents.cleaning`). One that makes progress meanwhile stays.
Fails by: trying again (`shared.work_queue`).
"""

from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.documents import repository as documents
from services.projects.tenants import service as tenants
from services.projects.uploads import repository
from services.projects.uploads.models import Upload, UploadExpiry
from services.projects.uploads.repository import EXPIRIES
from shared.telemetry import get_logger
from shared.tenancy import Database
from shared.work_queue import keep_working

_log = get_logger(__name__)


async def remove(session: AsyncSession, upload: Upload) -> None:
    """Remove a locked upload with what it has reserved; its blob, unless a document has it, is removed soon."""
    await repository.remove(session, upload)
    if upload.document_id is None:
        await documents.remember_blob_deletions(session, upload.project_id, None, {upload.id: upload.received})
        await tenants.give_back(session, size=upload.reserved, uploads=1)


async def run(database: Database, *, every_seconds: float) -> None:
    """Work until cancelled."""
    await keep_working(partial(remove_next, database), name="upload-expiries", poll_seconds=every_seconds)


async def remove_next(database: Database) -> bool:
    """Remove the next upload that has expired; returns whether there was one."""
    return await EXPIRIES.work_on_next(database, partial(_remove, database))


async def _remove(database: Database, expiry: UploadExpiry) -> None:
    async with database.tenant(expiry.tenant_id) as session:
        upload = await repository.locked(session, upload_id=expiry.upload_id)
        await EXPIRIES.finish(session, expiry)
        if upload is not None:
            await remove(session, upload)
    _log.info("upload_expired", tenant_id=str(expiry.tenant_id), upload_id=str(expiry.upload_id))
