"""The bytes of documents, on a filesystem. One blob per key `tenant/project/document/version`, never changed once kept.

A blob is written to `incoming/<key>.part`, sealed (fsync, renamed to `incoming/<key>`, fsync of the folder) before the
transaction that records it, and moved to its own place after that transaction has committed. So:
- a document whose upload returned 201 has its bytes on the disk, whatever crashes (readers look in both places);
- an upload that ended in any other way leaves at most one file, and only in `incoming/`. `leftovers` tells them apart:
  a part is removed; for a sealed blob its row decides, which also shows whether a commit of unknown outcome happened;
- nothing ever has to walk the whole store.
Only files untouched for an hour are judged, and sealing renews that time. Removing a part from an even slower upload
makes its sealing fail; a recorded document never loses its bytes. `incoming/` is on the same filesystem: every move is
one atomic rename.

Does not guarantee: room for two stores, or a root that is not shared by all processes of the service.
Fails by: `StorageFull` when the disk is full, `StorageUnavailable` for every other error of the filesystem.

Keys are made of UUIDs and a number, so no client input reaches a path. All file operations run in the store's own
threads; bytes are gathered to `BATCH_BYTES` first, so that a thread hop is paid per batch and a small document costs
one. Tenants take turns at the threads, and each may have half of them at a time; cleaning counts as one tenant.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Final, Self, TypeVar

from shared.errors import QuarryError, Unavailable
from shared.fair_semaphore import FairSemaphore
from shared.telemetry import get_logger

BATCH_BYTES = 1024 * 1024
READ_BYTES = 256 * 1024
PART = ".part"
_CLEANING: Final = "cleaning"
_CHECKS: Final = "checks"

T = TypeVar("T")
_log = get_logger(__name__)


class StorageFull(QuarryError):
    status = 507
    code = "storage_full"
    detail = "There is no space left to store documents."


class StorageUnavailable(Unavailable):
    code = "storage_unavailable"
    detail = "The document store is unavailable right now; try again shortly."


@dataclass(frozen=True, slots=True)
class BlobKey:
    tenant_id: uuid.UUID
    project_id: uuid.UUID
    document_id: uuid.UUID
    version: int

    @classmethod
    def of_upload(cls, tenant_id: uuid.UUID, project_id: uuid.UUID, blob_id: uuid.UUID) -> Self:
        """The key of what one upload brought: named after the document it made, or an id of its own when it became a
        version of another. Which version that is becomes known after the bytes have arrived."""
        return cls(tenant_id, project_id, blob_id, 1)

    @property
    def path(self) -> str:
        """Relative path of a kept blob."""
        return f"{self.tenant_id}/{self.project_id}/{self.document_id}/{self.version}"

    @property
    def incoming_name(self) -> str:
        return self.path.replace("/", ".")

    @classmethod
    def from_incoming_name(cls, name: str) -> Self | None:
        """The key a file in `incoming/` is named after; None for a file that is not ours."""
        try:
            tenant_id, project_id, document_id, version = name.split(".")
            key = cls(uuid.UUID(tenant_id), uuid.UUID(project_id), uuid.UUID(document_id), int(version))
        except ValueError:
            return None
        return key if key.incoming_name == name else None


class BlobStore:
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
        """Readiness. Raises RuntimeError when the folder cannot be written to."""
        if not await self.run(_CHECKS, os.access, self._incoming, os.W_OK | os.X_OK):
            raise RuntimeError("the document store is not writable")

    @asynccontextmanager
    async def receive(self, key: BlobKey) -> AsyncIterator["IncomingBlob"]:
        """A blob to write. Removed after the block unless `keep()` was reached or the commit may have happened."""
        blob = IncomingBlob(self, key, self._incoming / key.incoming_name)
        try:
            yield blob
        except BaseException as error:
            # A public error is raised before the commit; any other may be a commit whose reply was lost.
            if isinstance(error, QuarryError) or not blob.sealed:
                await blob.discard()
            raise

    async def keep(self, key: BlobKey) -> None:
        """Move a sealed blob to its place. A failure loses nothing: it is read where it is, and moved later."""
        try:
            await self.run(key.tenant_id, self._move_in, key)
        except (StorageFull, StorageUnavailable) as error:
            _log.warning("blob_left_incoming", document_id=str(key.document_id), exc_info=error)

    async def open(self, key: BlobKey) -> "OpenBlob":
        """The blob, open for reading; close it.

        Raises:
            StorageUnavailable: it is not there, although its caller has a row that says so.
        """
        opening = asyncio.create_task(self.run(key.tenant_id, self._open, key))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # Its thread opens it anyway.
            opening.add_done_callback(_close_unwanted)
            raise

    async def remove(self, key: BlobKey) -> None:
        """Remove the blob wherever it is; returns once it is gone from the disk. Removing it again is no error."""
        await self.run(_CLEANING, self._remove, key)

    async def remove_some_of(self, tenant_id: uuid.UUID, *, count: int) -> int:
        """Remove at most `count` blobs of a tenant that makes no new ones; returns how many were removed.

        Incoming blobs go first: one that is being moved to its place meanwhile is found there later.
        """
        return await self.run(_CLEANING, self._remove_some_of, tenant_id, count)

    async def leftovers(self, older_than: timedelta) -> list[BlobKey]:
        """Remove parts untouched for `older_than`; returns the keys of sealed blobs as old, to be kept or removed."""
        return await self.run(_CLEANING, self._leftovers, time.time() - older_than.total_seconds())

    def _move_in(self, key: BlobKey) -> None:
        place = self._root / key.path
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not there: moved by another process, or deleted in the meantime.
        with contextlib.suppress(FileNotFoundError):
            (self._incoming / key.incoming_name).rename(place)

    def _open(self, key: BlobKey) -> "OpenBlob":
        place, incoming = self._root / key.path, self._incoming / key.incoming_name
        missing: FileNotFoundError | None = None
        # Its own place twice: it may be moved there between the first two looks.
        for path in (place, incoming, place):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError as error:
                missing = error
                continue
            return OpenBlob(self, key, descriptor, os.fstat(descriptor).st_size)
        raise missing or FileNotFoundError(errno.ENOENT, "no blob", key.path)

    def _remove(self, key: BlobKey) -> None:
        place = self._root / key.path
        # In this order: a move that is under way ends in the place looked at last.
        (self._incoming / key.incoming_name).unlink(missing_ok=True)
        place.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            try:
                place.parent.rmdir()
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                _sync_folder(place.parent)
            _sync_folder(place.parent.parent)
        _sync_folder(self._incoming)

    def _remove_some_of(self, tenant_id: uuid.UUID, count: int) -> int:
        paths = list(islice(self._incoming.glob(f"{tenant_id}.*"), count))
        place = self._root / str(tenant_id)
        if not paths:
            paths = list(islice((path for path in place.rglob("*") if not path.is_dir()), count))
        for path in paths:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in paths}:
            _sync_folder(folder)
        if not paths and place.exists():
            shutil.rmtree(place)
            _sync_folder(self._root)
        return len(paths)

    def _leftovers(self, before: float) -> list[BlobKey]:
        keys = []
        with os.scandir(self._incoming) as entries:
            for entry in entries:
                key = BlobKey.from_incoming_name(entry.name.removesuffix(PART))
                # Files come and go while we look.
                with contextlib.suppress(FileNotFoundError):
                    if key is None or entry.stat(follow_symlinks=False).st_mtime > before:
                        continue
                    if entry.name.endswith(PART):
                        Path(entry.path).unlink()
                    else:
                        keys.append(key)
        return keys


class IncomingBlob:
    """One upload under way; `size` counts the bytes given to `write`. Used by one task at a time."""

    def __init__(self, store: BlobStore, key: BlobKey, path: Path) -> None:
        self.key = key
        self.size = 0
        self.sealed = False
        self._store = store
        self._path = path
        self._part = path.with_name(path.name + PART)
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self._descriptor: int | None = None
        # A cancelled task leaves its thread running; the clean-up after it waits here.
        self._lock = threading.Lock()

    async def write(self, data: bytes | memoryview) -> None:
        self._buffer += data
        self.size += len(data)
        if len(self._buffer) >= BATCH_BYTES:
            batch, self._buffer = self._buffer, bytearray()
            await self._store.run(self.key.tenant_id, self._append, batch)

    async def seal(self) -> str:
        """Make the blob durable; returns its sha256 in hexadecimal."""
        batch, self._buffer = self._buffer, bytearray()
        digest = await self._store.run(self.key.tenant_id, self._finish, batch)
        self.sealed = True
        return digest

    async def keep(self) -> None:
        """To be called once the row is committed."""
        await self._store.keep(self.key)

    async def discard(self) -> None:
        """Remove what was written, even when the task is being cancelled."""
        try:
            await asyncio.shield(self._store.run(self.key.tenant_id, self._remove))
        except StorageUnavailable as error:
            _log.warning("blob_left_incoming", document_id=str(self.key.document_id), exc_info=error)

    def _append(self, batch: bytearray) -> int:
        with self._lock:
            return self._append_locked(batch)

    def _append_locked(self, batch: bytearray) -> int:
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(self._part, flags, 0o600)
        self._digest.update(batch)
        with memoryview(batch) as view:
            written = 0
            while written < len(view):
                written += os.write(self._descriptor, view[written:])
        return self._descriptor

    def _finish(self, batch: bytearray) -> str:
        with self._lock:
            descriptor = self._append_locked(batch)
            os.utime(descriptor)
            os.fsync(descriptor)
            self._close()
            self._part.rename(self._path)
            _sync_folder(self._path.parent)
            return self._digest.hexdigest()

    def _remove(self) -> None:
        with self._lock:
            self._close()
            self._part.unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class OpenBlob:
    """A blob open for reading; deleting it meanwhile does not disturb its readers."""

    def __init__(self, store: BlobStore, key: BlobKey, descriptor: int, size: int) -> None:
        self.size = size
        self._holder = key.tenant_id
        self._store = store
        self._descriptor = descriptor
        self._watched: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]] = _as_they_are

    def watched_by(self, watch: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]) -> None:
        """Let `watch` end the bytes early, by raising."""
        self._watched = watch

    def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to, not including, `end`.

        Raises:
            StorageUnavailable: the file is shorter than it was.
        """
        return self._watched(self._read(start, end))

    async def _read(self, start: int, end: int) -> AsyncIterator[bytes]:
        while start < end:
            chunk = await self._store.run(self._holder, os.pread, self._descriptor, min(READ_BYTES, end - start), start)
            if not chunk:
                raise StorageUnavailable
            start += len(chunk)
            yield chunk

    async def close(self) -> None:
        await asyncio.shield(self._store.run(self._holder, self.close_now))

    def close_now(self) -> None:
        os.close(self._descriptor)


def _as_they_are(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    return chunks


def _close_unwanted(opening: "asyncio.Task[OpenBlob]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close_now()


@asynccontextmanager
async def open_store(root: Path, threads: int) -> AsyncIterator[BlobStore]:
    """The store below `root`, with threads of its own: a slow disk must not hold up anything else."""
    executor = ThreadPoolExecutor(threads, thread_name_prefix="blobs")
    try:
        # Unlimited waiting: each request waits once, and refusing one would leave its file open.
        turns = FairSemaphore(threads, each=max(1, threads // 2), waiting=sys.maxsize, waiting_in_all=sys.maxsize)
        store = BlobStore(root, executor, turns)
        await store.prepare()
        yield store
    finally:
        executor.shutdown(wait=False)


def _sync_folder(path: Path) -> None:
    """Make what was created, renamed or removed in a folder survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
