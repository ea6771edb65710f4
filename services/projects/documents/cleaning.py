"""Background work on the blob store: removing the bytes of deleted documents, and settling left-over uploads.

Guarantees: the bytes of a deleted document are removed once the deletion is committed, however often that fails at
first or the process dies; what an upload cut off by a crash leaves is removed unless a document claims it.
Fails by: trying again later, each blob with its own backoff; a failure never stops the loop.
"""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from services.projects.blobs import BlobKey, BlobStore, StorageFull, StorageUnavailable
from services.projects.documents import repository
from services.projects.documents.models import BlobDeletion
from shared.failpoints import failpoint
from shared.telemetry import get_logger
from shared.tenancy import Database

BATCH: Final = 100
SWEEP_EVERY: Final = timedelta(minutes=10)
LEFTOVER_AGE: Final = timedelta(hours=1)
_MOST_DELAY: Final = timedelta(hours=1)

AFTER_REMOVE = failpoint("blobs.after_remove", "blob removed, still owed")

_log = get_logger(__name__)


async def run(database: Database, blobs: BlobStore, *, every_seconds: float) -> None:
    """Work until cancelled."""
    loop = asyncio.get_running_loop()
    next_sweep = 0.0
    while True:
        try:
            while await remove_deleted(database, blobs) == BATCH:
                pass
            if loop.time() >= next_sweep:
                await settle_leftovers(database, blobs, older_than=LEFTOVER_AGE)
                next_sweep = loop.time() + SWEEP_EVERY.total_seconds()
        except (SQLAlchemyError, OSError, StorageFull, StorageUnavailable) as error:
            _log.warning("blob_cleaning_paused", reason=str(error)[:200], exc_info=error)
        await asyncio.sleep(every_seconds)


async def remove_deleted(database: Database, blobs: BlobStore) -> int:
    """Remove the blobs of deleted documents that are due; returns how many were tried."""
    async with database.system() as session:
        now = datetime.now(UTC)
        due = await repository.due_blob_deletions(session, now=now, count=BATCH)
        for deletion in due:
            if await remove_one(blobs, deletion, now=now):
                await AFTER_REMOVE.reach()
                await session.delete(deletion)
    return len(due)


async def remove_one(blobs: BlobStore, deletion: BlobDeletion, *, now: datetime) -> bool:
    """Remove one blob; on failure note when to try again."""
    try:
        await blobs.remove(deletion.blob_key)
    except (StorageFull, StorageUnavailable) as error:
        deletion.attempts += 1
        deletion.next_attempt_at = now + min(_MOST_DELAY, timedelta(seconds=2.0 ** min(deletion.attempts, 12)))
        _log.warning(
            "blob_not_removed",
            tenant_id=str(deletion.tenant_id),
            document_id=str(deletion.document_id),
            attempts=deletion.attempts,
            exc_info=error,
        )
        return False
    return True


async def settle_leftovers(database: Database, blobs: BlobStore, *, older_than: timedelta) -> int:
    """Keep the sealed blobs that a document claims, remove the others; returns how many were looked at."""
    leftovers = await blobs.leftovers(older_than)
    by_tenant: defaultdict[object, list[BlobKey]] = defaultdict(list)
    for key in leftovers:
        by_tenant[key.tenant_id].append(key)
    for keys in by_tenant.values():
        async with database.tenant(keys[0].tenant_id) as session:
            claimed = await repository.still_there(session, [key.document_id for key in keys])
        for key in keys:
            if (key.document_id, key.version) in claimed:
                await blobs.keep(key)
            else:
                await blobs.remove(key)
    if leftovers:
        _log.info("leftover_blobs_settled", count=len(leftovers))
    return len(leftovers)
