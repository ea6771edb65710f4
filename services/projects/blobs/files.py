"""One file of the filesystem store, being written or being read."""

import asyncio
import errno
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from services.projects.blobs import resumable_sha256
from services.projects.blobs.resumable_sha256 import ResumableSha256
from services.projects.blobs.store import BlobBusy, BlobKey, StorageUnavailable, Watch, as_they_are
from shared.telemetry import get_logger

if TYPE_CHECKING:
    from services.projects.blobs.filesystem import FilesystemStore

BATCH_BYTES: Final = 1024 * 1024
READ_BYTES: Final = 256 * 1024
PART: Final = ".part"
SUSPENDED: Final = ".upload"
# How long to wait for who writes the blob to notice that it has lost it.
BUSY_SECONDS: Final = 8.0
_LOOK_SECONDS: Final = 0.05

_log = get_logger(__name__)


class IncomingFile:
    """An upload to a file. Bytes are gathered to `BATCH_BYTES`: a thread hop is paid per batch, one by a small
    document."""

    def __init__(self, store: "FilesystemStore", key: BlobKey, path: Path) -> None:
        self.key = key
        self.size = 0
        self.sealed = False
        self.suspended = False
        self._store = store
        self._path = path
        self._part = path.with_name(path.name + PART)
        self._buffer = bytearray()
        self._digest: hashlib._Hash | ResumableSha256 = hashlib.sha256()
        self._descriptor: int | None = None
        # A cancelled task leaves its thread running; the clean-up after it waits here.
        self._lock = threading.Lock()

    async def write(self, data: bytes | memoryview) -> None:
        self._buffer += data
        self.size += len(data)
        if len(self._buffer) >= BATCH_BYTES:
            batch, self._buffer = self._buffer, bytearray()
            await self._store.run(self.key.tenant_id, self._append, batch)

    async def suspend(self) -> bytes:
        batch, self._buffer = self._buffer, bytearray()
        await self._store.run(self.key.tenant_id, self._suspend, batch)
        self.suspended = True
        digest = self._digest.state() if isinstance(self._digest, ResumableSha256) else None
        return orjson.dumps({"size": self.size, "sha256": digest})

    async def resume(self, state: bytes) -> None:
        """Raises BlobBusy: another process writes to it."""
        known = orjson.loads(state)
        self.size, self.suspended = known["size"], True
        deadline = time.monotonic() + BUSY_SECONDS
        while not await self._store.run(self.key.tenant_id, self._resume, known["size"], known.get("sha256")):
            if time.monotonic() > deadline:
                raise BlobBusy(retry_after=2)
            await asyncio.sleep(_LOOK_SECONDS)

    async def seal(self) -> str:
        batch, self._buffer = self._buffer, bytearray()
        digest = await self._store.run(self.key.tenant_id, self._finish, batch)
        self.sealed = True
        return digest

    async def keep(self) -> None:
        await self._store.keep(self.key)

    async def discard(self) -> None:
        try:
            await asyncio.shield(self._store.run(self.key.tenant_id, self._remove))
        except StorageUnavailable as error:
            _log.warning("blob_left_incoming", document_id=str(self.key.document_id), exc_info=error)

    async def close(self) -> None:
        """Close the file, also when it is still being written."""
        await asyncio.shield(self._store.run(self.key.tenant_id, self._close_after_writing))

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
            self._move_to(self._path, batch)
            return self._digest.hexdigest()

    def _suspend(self, batch: bytearray) -> None:
        with self._lock:
            self._move_to(self._path.with_name(self._path.name + SUSPENDED), batch)

    def _move_to(self, path: Path, batch: bytearray) -> None:
        descriptor = self._append_locked(batch)
        os.utime(descriptor)
        os.fsync(descriptor)
        self._part.rename(path)
        self._part = path
        # Not before: this lets go of the lock on a resumed file.
        self._close()
        sync_folder(path.parent)

    def _resume(self, size: int, state: str | None) -> bool:
        """Whether nobody else writes to the file; locks die with their process."""
        with self._lock:
            self._part = self._path.with_name(self._path.name + SUSPENDED)
            try:
                self._descriptor = os.open(self._part, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                # Sealed, by a process that did not live to have that recorded.
                self._path.rename(self._part)
                return False
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._close()
                return False
            if os.fstat(self._descriptor).st_size < size:
                raise OSError(errno.EIO, "fewer bytes than were made durable")
            os.truncate(self._descriptor, size)
            self._take_up_digest(size, state)
            return True

    def _take_up_digest(self, size: int, state: str | None) -> None:
        assert self._descriptor is not None  # noqa: S101  # opened
        if resumable_sha256.available():
            if state is not None:
                self._digest = ResumableSha256.resume(state, size)
                os.lseek(self._descriptor, 0, os.SEEK_END)
                return
            self._digest = ResumableSha256()
        while batch := os.read(self._descriptor, BATCH_BYTES):
            self._digest.update(bytearray(batch))

    def _remove(self) -> None:
        with self._lock:
            self._close()
            self._part.unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)

    def _close_after_writing(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class OpenFile:
    """A file open for reading; deleting it meanwhile does not disturb its readers."""

    def __init__(self, store: "FilesystemStore", key: BlobKey, descriptor: int, size: int) -> None:
        self.size = size
        self._holder = key.tenant_id
        self._store = store
        self._descriptor = descriptor
        self._watched: Watch = as_they_are

    def watched_by(self, watch: Watch) -> None:
        self._watched = watch

    def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        return self._watched(self._read(start, end))

    async def _read(self, start: int, end: int) -> AsyncIterator[bytes]:
        while start < end:
            chunk = await self._store.run(self._holder, os.pread, self._descriptor, min(READ_BYTES, end - start), start)
            if not chunk:
                raise StorageUnavailable
            start += len(chunk)
            yield chunk

    async def address(self, *, disposition: str, content_type: str) -> None:
        return None

    async def close(self) -> None:
        await asyncio.shield(self._store.run(self._holder, self.close_now))

    def close_now(self) -> None:
        os.close(self._descriptor)


def sync_folder(path: Path) -> None:
    """Make what was created, renamed or removed in a folder survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
