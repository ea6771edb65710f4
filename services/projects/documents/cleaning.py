"""Background work on the blob store: removing the bytes of deleted documents, and settling left-over uploads.

Guarantees: the bytes of a deleted document are removed once the deletion is committed, however often that fails at
first or the process dies, unless a version of another document shares them: then they go with the last that does. What
an upload or an export cut off by a crash leaves is removed unless a version or an export refers to it, or the upload
may be resumed.
Fails by: trying again later, each blob with its own backoff (`shared.work_queue`).
"""

import asyncio
from collections import defaultdict
from datetime import timedelta
from functools import partial
from typing import Final

from services.projects.blobs.store import BlobKey, BlobStore
from services.projects.documents import repository
from services.projects.documents.models import BlobDeletion
from services.projects.documents.repository import BLOB_DELETIONS
from services.projects.purges import service as purges
from services.projects.uploads import repository as uploads
from shared.failpoints import failpoint
from shared.telemetry import get_logger
from shared.tenancy import Database
from shared.work_queue import keep_working

SWEEP_EVERY: Final = timedelta(minutes=10)
LEFTOVER_AGE: Final = timedelta(hours=1)

AFTER_REMOVE = failpoint("blobs.after_remove", "blob removed, still pending")

_log = get_logger(__name__)


async def run(database: Database, blobs: BlobStore, *, every_seconds: float) -> None:
    """Work until cancelled."""
    removing = partial(remove_next, database, blobs)

    async def sweeping() -> bool:
        await settle_leftovers(database, blobs, older_than=LEFTOVER_AGE)
        return False

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keep_working(removing, name="blob-deletions", poll_seconds=every_seconds))
        tasks.create_task(keep_working(sweeping, name="left-over-uploads", poll_seconds=SWEEP_EVERY.total_seconds()))


async def remove_next(database: Database, blobs: BlobStore) -> bool:
    """Remove the blob of the next deleted document that is due; returns whether there was one."""
    return await BLOB_DELETIONS.work_on_next(database, partial(remove, database, blobs))


async def remove(database: Database, blobs: BlobStore, deletion: BlobDeletion) -> None:
    async with database.tenant(deletion.tenant_id) as session:
        needed = await repository.still_referred_to(session, [deletion.document_id])
    if not needed:
        await blobs.remove(deletion.blob_key)
        await AFTER_REMOVE.reach()
    # If what needs it was deleted meanwhile, that has made the row due again: the claim is lost, and the row stays.
    async with database.tenant(deletion.tenant_id) as session:
        await BLOB_DELETIONS.finish(session, deletion)
        # It counts for the last document that referred to it.
        last = None if needed else deletion.deleted[-1:]
        for document_id in sorted(deletion.deleted):
            removed = deletion.size if [document_id] == last else None
            await purges.settle_blob(session, document_id, removed=removed)


async def settle_leftovers(database: Database, blobs: BlobStore, *, older_than: timedelta) -> int:
    """Keep the sealed blobs that a version or an export refers to, leave those of unfinished uploads and remove the
    others; returns how many were looked at."""
    leftovers = await blobs.leftovers(older_than)
    by_tenant: defaultdict[object, list[BlobKey]] = defaultdict(list)
    for key in leftovers:
        by_tenant[key.tenant_id].append(key)
    for keys in by_tenant.values():
        async with database.tenant(keys[0].tenant_id) as session:
            ids = {key.document_id for key in keys}
            needed = await repository.still_referred_to(session, ids) | await repository.ready_exports(session, ids)
            going_on = await uploads.unfinished(session, ids)
        for key in keys:
            if key.document_id in needed:
                await blobs.keep(key)
            elif key.document_id not in going_on:
                await blobs.remove(key)
    if leftovers:
        _log.info("leftover_blobs_settled", count=len(leftovers))
    return len(leftovers)
