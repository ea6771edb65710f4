"""An upload under way to a bucket.

Before anything of a blob reaches the server an empty object `incoming/<key>` marks it, and the mark is removed when
the blob is kept: whatever is not kept is found by listing `incoming/`. The mark is renewed while bytes arrive and
before the blob is sealed, so its age tells when the blob was touched last. A small blob is one request; a larger one is
sent in parts of `PART_BYTES` while it arrives, one at a time. What waits for its part to be full takes memory: beyond
`FREE_BYTES` an upload needs one of a bounded number of buffers, and reads no more until it has one.

A suspended upload is its parts, and `incoming/<key>.<size>.upload` with the bytes after the last part: no part but the
last may be smaller than 5 MiB. That object is written anew each time, so that the state recorded last has its own, and
those before it are removed when the upload goes on. Nothing keeps two processes from going on with one upload at once:
each finds what the recorded state names, and what only the other one made is removed at the end.
"""

import asyncio
import hashlib
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import orjson

from services.projects.blobs import resumable_sha256
from services.projects.blobs.resumable_sha256 import ResumableSha256
from services.projects.blobs.s3.bucket import Bucket, ObjectMissing
from services.projects.blobs.store import BlobKey, StorageFull, StorageUnavailable
from shared.fair_semaphore import FairSemaphore
from shared.telemetry import get_logger

PART_BYTES: Final = 8 * 1024 * 1024
FREE_BYTES: Final = 1024 * 1024
READ_BYTES: Final = 2 * 1024 * 1024
INCOMING: Final = "incoming/"
SUSPENDED: Final = ".upload"
_RENEW_SECONDS: Final = 600.0

T = TypeVar("T")
_log = get_logger(__name__)


def mark_of(key: BlobKey) -> str:
    return f"{INCOMING}{key.incoming_name}"


def key_of(name: str) -> BlobKey | None:
    """The key that an object below `INCOMING` belongs to; None for one that is not ours."""
    name = name.removeprefix(INCOMING)
    if name.endswith(SUSPENDED):
        name = name.removesuffix(SUSPENDED).rpartition(".")[0]
    return BlobKey.from_incoming_name(name)


def _size_in(name: str) -> int:
    return int(name.removesuffix(SUSPENDED).rpartition(".")[2])


def _joined(tags: list[str]) -> str:
    """Stands for the content of these parts."""
    return hashlib.sha256("".join(tags).encode()).hexdigest()


def _taken_up(state: str | None, size: int) -> "hashlib._Hash | ResumableSha256 | None":
    """The digest of the first `size` bytes, if it is known."""
    if not size:
        return ResumableSha256() if resumable_sha256.available() else hashlib.sha256()
    if state is None or not resumable_sha256.available():
        return None
    return ResumableSha256.resume(state, size)


class IncomingObject:
    """An upload to one object."""

    def __init__(self, bucket: Bucket, buffers: FairSemaphore, key: BlobKey) -> None:
        self.key = key
        self.size = 0
        self.sealed = False
        self.suspended = False
        self._bucket = bucket
        self._buffers = buffers
        self._has_buffer = False
        self._buffer = bytearray()
        # Of what was sent; None when that was another process, whose digest could not be taken up.
        self._digest: hashlib._Hash | ResumableSha256 | None = hashlib.sha256()
        self._upload: str | None = None
        self._tags: list[str] = []
        self._marked: float | None = None
        # Whether the object is there already.
        self._whole = False
        # Whether every request that could make the object or an upload got a response.
        self._certain = True
        self._working: asyncio.Task[Any] | None = None

    async def write(self, data: bytes | memoryview) -> None:
        if self._whole and data:
            raise StorageUnavailable(retry_after=2)
        await self._make_room(len(data))
        self._buffer += data
        self.size += len(data)
        while len(self._buffer) >= PART_BYTES:
            part = bytes(memoryview(self._buffer)[:PART_BYTES])
            del self._buffer[:PART_BYTES]
            await self._do(self._send(part))
        if len(self._buffer) <= FREE_BYTES:
            self.give_back()
        if self._marked is not None and time.monotonic() - self._marked > _RENEW_SECONDS:
            await self._do(self._mark())

    async def suspend(self) -> bytes:
        await self._do(self._bucket.put(self.key.tenant_id, self._tail_at(self.size), bytes(self._buffer)))
        self.suspended = True
        digest = self._digest.state() if isinstance(self._digest, ResumableSha256) else None
        known = {"size": self.size, "upload": self._upload, "parts": len(self._tags), "tags": _joined(self._tags)}
        return orjson.dumps({**known, "sha256": digest})

    async def resume(self, state: bytes) -> None:
        """Go on with a suspended upload.

        Raises:
            StorageUnavailable: it is not there.
        """
        known = orjson.loads(state)
        self.size, self._upload, parts = known["size"], known["upload"], known["parts"]
        self.suspended = True
        self._digest = _taken_up(known["sha256"], parts * PART_BYTES)
        try:
            entries = await self._bucket.entries(self.key.tenant_id, f"{mark_of(self.key)}.")
            if self._tail_at(self.size) not in [entry.name for entry in entries]:
                raise ObjectMissing
            await self._take_up(parts, known["tags"])
        except ObjectMissing as error:
            raise StorageUnavailable(retry_after=2) from error
        for entry in entries:
            if _size_in(entry.name) < self.size:
                await self._bucket.delete(self.key.tenant_id, entry.name)

    async def _take_up(self, parts: int, tags: str) -> None:
        holder = self.key.tenant_id
        if rest := self.size - parts * PART_BYTES:
            await self._make_room(rest)
            self._buffer += await self._bucket.read(holder, self._tail_at(self.size), 0, rest)
        if self._upload is None:
            return
        try:
            self._tags = await self._bucket.tags(holder, self.key.path, self._upload, parts)
        except ObjectMissing:
            # Sealed, by a process that did not live to have that recorded.
            self._whole = await self._bucket.size_of(holder, self.key.path) == self.size
            if not self._whole:
                raise
            return
        if _joined(self._tags) != tags:
            # Written again since, by a process that had lost the upload.
            raise ObjectMissing

    async def seal(self) -> str:
        digest = await self._do(self._finish())
        self.sealed = True
        self.give_back()
        return digest

    async def keep(self) -> None:
        await settled(self._bucket, self.key, was_suspended=self.suspended)

    async def discard(self) -> None:
        try:
            await asyncio.shield(self._remove())
        except (StorageFull, StorageUnavailable) as error:
            _log.warning("blob_left_incoming", document_id=str(self.key.document_id), exc_info=error)

    async def wait(self) -> None:
        """Until no request is under way: a task that was cancelled leaves its last one running."""
        if self._working is not None:
            await asyncio.gather(self._working, return_exceptions=True)

    def give_back(self) -> None:
        """To be called when the upload is over, however it ended."""
        if self._has_buffer:
            self._has_buffer = False
            self._buffers.leave(self.key.tenant_id)

    async def _make_room(self, size: int) -> None:
        if not self._has_buffer and len(self._buffer) + size > FREE_BYTES:
            await self._buffers.enter(self.key.tenant_id)
            self._has_buffer = True

    async def _do(self, work: Coroutine[Any, Any, T]) -> T:
        self._working = asyncio.create_task(work)
        return await asyncio.shield(self._working)

    async def _send(self, part: bytes) -> None:
        holder, name = self.key.tenant_id, self.key.path
        if self._digest is not None:
            await asyncio.to_thread(self._digest.update, bytearray(part))
        if self._marked is None:
            await self._mark()
        if self._upload is None:
            self._upload = await self._bucket.begin(holder, name, lost=self._doubt)
        try:
            number = len(self._tags) + 1
            tag = await self._bucket.put_part(holder, name, self._upload, number, part, lost=self._doubt)
            self._tags.append(tag)
        except ObjectMissing as error:
            raise StorageUnavailable(retry_after=2) from error

    async def _mark(self) -> None:
        await self._bucket.put(self.key.tenant_id, mark_of(self.key), b"")
        self._marked = time.monotonic()

    async def _finish(self) -> str:
        rest, self._buffer = bytes(self._buffer), bytearray()
        holder, name = self.key.tenant_id, self.key.path
        await self._mark()
        if self._whole:
            return await self._read_back()
        if self._upload is None:
            assert self._digest is not None  # noqa: S101  # nothing was sent so far
            self._digest.update(bytearray(rest))
            await self._bucket.put(holder, name, rest, lost=self._doubt)
            if self.suspended:
                await self._bucket.abort(holder, name)
            return self._digest.hexdigest()
        if rest:
            await self._send(rest)
        try:
            await self._bucket.complete(holder, name, self._upload, self._tags, lost=self._doubt)
            if self.suspended or not self._certain:
                # Another upload may have begun without our knowing.
                await self._bucket.abort(holder, name)
            return self._digest.hexdigest() if self._digest is not None else await self._read_back()
        except ObjectMissing as error:
            raise StorageUnavailable(retry_after=2) from error

    async def _read_back(self) -> str:
        digest = hashlib.sha256()
        for start in range(0, self.size, READ_BYTES):
            end = min(self.size, start + READ_BYTES)
            content = await self._bucket.read(self.key.tenant_id, self.key.path, start, end)
            await asyncio.to_thread(digest.update, content)
        return digest.hexdigest()

    async def _remove(self) -> None:
        await self.wait()
        if self._marked is None and not self.suspended:
            return
        # What may still have its effect is found by its mark, an hour later.
        await removed(self._bucket, self.key, self.key.tenant_id, but_mark=not self._certain)

    def _doubt(self) -> None:
        self._certain = False

    def _tail_at(self, size: int) -> str:
        return f"{mark_of(self.key)}.{size}{SUSPENDED}"


async def settled(bucket: Bucket, key: BlobKey, *, was_suspended: bool = True) -> None:
    """The blob needs its mark no more. A failure loses nothing: the blob is readable, and looked at again later."""
    try:
        if was_suspended:
            for entry in await bucket.entries(key.tenant_id, f"{mark_of(key)}."):
                await bucket.delete(key.tenant_id, entry.name)
        await bucket.delete(key.tenant_id, mark_of(key))
    except (StorageFull, StorageUnavailable) as error:
        _log.warning("blob_left_incoming", document_id=str(key.document_id), exc_info=error)


async def removed(bucket: Bucket, key: BlobKey, holder: object, *, but_mark: bool = False) -> None:
    """Remove the object, unfinished uploads of it, and last what marks it."""
    entries = await bucket.entries(holder, mark_of(key))
    names = [entry.name for entry in entries if key_of(entry.name) == key]
    if names:
        await bucket.abort(holder, key.path)
    await bucket.delete(holder, key.path)
    for name in names:
        if not (but_mark and name == mark_of(key)):
            await bucket.delete(holder, name)
