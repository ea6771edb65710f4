"""Blobs on a filesystem: one file each.

A blob is written to `incoming/<key>.part`, sealed (fsync, renamed to `incoming/<key>`, fsync of the folder) before the
transaction that records it, and moved to its own place after that transaction has committed; readers look in both
places. A suspended one is `incoming/<key>.upload`, locked (flock) by the process that goes on with it. Only files
untouched for an hour are judged, and sealing and suspending renew that time. Removing a part from an even slower upload
makes its sealing fail; a recorded document never loses its bytes. `incoming/` is on the same filesystem: every move is
one atomic rename.

Does not guarantee: room for two stores, or a root that is not shared by all processes of the service.

All file operations run in the store's own threads, of which a tenant may have half at a time.
"""

import asyncio
import contextlib
import errno
import os
import shutil
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from services.projects.blobs.files import PART, SUSPENDED, IncomingFile, OpenFile, sync_folder
from services.projects.blobs.store import BlobKey, StorageFull, StorageUnavailable
from shared.errors import QuarryError
from shared.fair_semaphore import FairSemaphore
from shared.telemetry import get_logger

_CLEANING: Final = "cleaning"
_CHECKS: Final = "checks"

T = TypeVar("T")
_log = get_logger(__name__)


class FilesystemStore:
    """A store below one folder. Made by `open_store`."""

    def __init__(self, root: Path, threads: ThreadPoolExecutor, turns: FairSemaphore) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._threads = threads
        self._turns = turns

    async def run(self, holder: Hashable, work: Callable[..., T], *arguments: object) -> T:
        """Run a file operation in the store's threads.

        Args:
            holder: the tenant whose turn it is.

        Raises:
            StorageFull: no space, quota or file size left.
            StorageUnavailable: the filesystem failed otherwise.
        """
        await self._turns.enter(holder)
        try:
            working = asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        except BaseException:
            self._turns.leave(holder)
            raise
        # The thread is busy until it is done, even when its caller is gone.
        working.add_done_callback(lambda _: self._turns.leave(holder))
        try:
            return await asyncio.shield(working)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StorageFull from error
            raise StorageUnavailable(retry_after=2) from error

    async def prepare(self) -> None:
        await self.run(_CHECKS, lambda: self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True))

    async def check(self) -> None:
        if not await self.run(_CHECKS, os.access, self._incoming, os.W_OK | os.X_OK):
            raise RuntimeError("the document store is not writable")

    @asynccontextmanager
    async def receive(self, key: BlobKey) -> AsyncIterator[IncomingFile]:
        blob = IncomingFile(self, key, self._incoming / key.incoming_name)
        try:
            yield blob
        except BaseException as error:
            # A public error is raised before the commit; any other may be a commit whose reply was lost.
            if not blob.suspended and (isinstance(error, QuarryError) or not blob.sealed):
                await blob.discard()
            raise

    @asynccontextmanager
    async def resume(self, key: BlobKey, state: bytes) -> AsyncIterator[IncomingFile]:
        blob = IncomingFile(self, key, self._incoming / key.incoming_name)
        try:
            await blob.resume(state)
            yield blob
        finally:
            await blob.close()

    async def keep(self, key: BlobKey) -> None:
        try:
            await self.run(key.tenant_id, self._move_in, key)
        except (StorageFull, StorageUnavailable) as error:
            _log.warning("blob_left_incoming", document_id=str(key.document_id), exc_info=error)

    async def open(self, key: BlobKey) -> OpenFile:
        opening = asyncio.create_task(self.run(key.tenant_id, self._open, key))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # Its thread opens it anyway.
            opening.add_done_callback(_close_unwanted)
            raise

    async def remove(self, key: BlobKey) -> None:
        await self.run(_CLEANING, self._remove, key)

    async def remove_some_of(self, tenant_id: uuid.UUID, *, count: int) -> int:
        return await self.run(_CLEANING, self._remove_some_of, tenant_id, count)

    async def leftovers(self, older_than: timedelta) -> list[BlobKey]:
        return await self.run(_CLEANING, self._leftovers, time.time() - older_than.total_seconds())

    def _move_in(self, key: BlobKey) -> None:
        place = self._root / key.path
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not there: moved by another process, or deleted in the meantime.
        with contextlib.suppress(FileNotFoundError):
            (self._incoming / key.incoming_name).rename(place)

    def _open(self, key: BlobKey) -> OpenFile:
        place, incoming = self._root / key.path, self._incoming / key.incoming_name
        missing: FileNotFoundError | None = None
        # Its own place twice: it may be moved there between the first two looks.
        for path in (place, incoming, place):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError as error:
                missing = error
                continue
            return OpenFile(self, key, descriptor, os.fstat(descriptor).st_size)
        raise missing or FileNotFoundError(errno.ENOENT, "no blob", key.path)

    def _remove(self, key: BlobKey) -> None:
        place = self._root / key.path
        # In this order: a move that is under way ends in the place looked at last.
        for suffix in ("", SUSPENDED):
            (self._incoming / f"{key.incoming_name}{suffix}").unlink(missing_ok=True)
        place.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            try:
                place.parent.rmdir()
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                sync_folder(place.parent)
            sync_folder(place.parent.parent)
        sync_folder(self._incoming)

    def _remove_some_of(self, tenant_id: uuid.UUID, count: int) -> int:
        paths = list(islice(self._incoming.glob(f"{tenant_id}.*"), count))
        place = self._root / str(tenant_id)
        if not paths:
            paths = list(islice((path for path in place.rglob("*") if not path.is_dir()), count))
        for path in paths:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in paths}:
            sync_folder(folder)
        if not paths and place.exists():
            shutil.rmtree(place)
            sync_folder(self._root)
        return len(paths)

    def _leftovers(self, before: float) -> list[BlobKey]:
        keys = []
        with os.scandir(self._incoming) as entries:
            for entry in entries:
                key = BlobKey.from_incoming_name(entry.name.removesuffix(PART).removesuffix(SUSPENDED))
                # Files come and go while we look.
                with contextlib.suppress(FileNotFoundError):
                    if key is None or entry.stat(follow_symlinks=False).st_mtime > before:
                        continue
                    if entry.name.endswith(PART):
                        Path(entry.path).unlink()
                    else:
                        keys.append(key)
        return keys


def _close_unwanted(opening: "asyncio.Task[OpenFile]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close_now()


@asynccontextmanager
async def open_store(root: Path, threads: int) -> AsyncIterator[FilesystemStore]:
    """The store below `root`, with threads of its own: a slow disk must not hold up anything else."""
    executor = ThreadPoolExecutor(threads, thread_name_prefix="blobs")
    try:
        # Unlimited waiting: each request waits once, and refusing one would leave its file open.
        turns = FairSemaphore(threads, each=max(1, threads // 2), waiting=sys.maxsize, waiting_in_all=sys.maxsize)
        store = FilesystemStore(root, executor, turns)
        await store.prepare()
        yield store
    finally:
        executor.shutdown(wait=False)
