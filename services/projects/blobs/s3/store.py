"""Blobs as objects of one bucket: `tenant/project/document/version`, and below `incoming/` what marks those that are
not kept yet (incoming.py). The processes of the service share nothing but the bucket.

An object or nothing is readable under a key, never a part of it: a request that was cut has no effect, and an upload in
parts becomes an object at once. What the server has confirmed is durable, so sealing is making the object.

Does not guarantee: that a reader gets all of a blob that is removed meanwhile. The bucket must not keep versions, else
what is removed stays.
"""

import asyncio
import contextlib
import sys
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from services.projects.blobs.s3.bucket import Bucket, Entry, ObjectMissing
from services.projects.blobs.s3.client import Access, client_of
from services.projects.blobs.s3.incoming import (
    INCOMING,
    READ_BYTES,
    SUSPENDED,
    IncomingObject,
    key_of,
    mark_of,
    removed,
    settled,
)
from services.projects.blobs.store import BlobKey, StorageUnavailable, Watch, as_they_are
from shared.errors import QuarryError
from shared.fair_semaphore import FairSemaphore

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

ADDRESS_SECONDS: Final = 60
REQUEST_SECONDS: Final = 30.0
_CLEANING: Final = "cleaning"


class S3Store:
    """A store in one bucket. Made by `open_store`."""

    def __init__(self, bucket: Bucket, buffers: FairSemaphore, addresses: "Addresses | None" = None) -> None:
        self._bucket = bucket
        self._buffers = buffers
        self._addresses = addresses

    async def check(self) -> None:
        await self._bucket.check()

    @asynccontextmanager
    async def receive(self, key: BlobKey) -> AsyncIterator[IncomingObject]:
        blob = IncomingObject(self._bucket, self._buffers, key)
        try:
            yield blob
        except BaseException as error:
            # A public error is raised before the commit; any other may be a commit whose reply was lost.
            if not blob.suspended and (isinstance(error, QuarryError) or not blob.sealed):
                await blob.discard()
            raise
        finally:
            blob.give_back()

    @asynccontextmanager
    async def resume(self, key: BlobKey, state: bytes) -> AsyncIterator[IncomingObject]:
        blob = IncomingObject(self._bucket, self._buffers, key)
        try:
            await blob.resume(state)
            yield blob
        finally:
            try:
                await asyncio.shield(blob.wait())
            finally:
                blob.give_back()

    async def keep(self, key: BlobKey) -> None:
        # What is suspended needs what marks it.
        with contextlib.suppress(ObjectMissing, StorageUnavailable):
            await self._bucket.size_of(key.tenant_id, key.path)
            await settled(self._bucket, key)

    async def open(self, key: BlobKey) -> "OpenObject":
        try:
            size = await self._bucket.size_of(key.tenant_id, key.path)
        except ObjectMissing as error:
            raise StorageUnavailable(retry_after=2) from error
        return OpenObject(self._bucket, key, size, self._addresses)

    async def remove(self, key: BlobKey) -> None:
        await removed(self._bucket, key, _CLEANING)

    async def remove_some_of(self, tenant_id: uuid.UUID, *, count: int) -> int:
        incoming = await self._bucket.entries(_CLEANING, f"{INCOMING}{tenant_id}.", most=count)
        if keys := {key for entry in incoming if (key := key_of(entry.name)) is not None}:
            await asyncio.gather(*[self.remove(key) for key in keys])
            return len(keys)
        entries = await self._bucket.entries(_CLEANING, f"{tenant_id}/", most=count)
        await asyncio.gather(*[self._bucket.delete(_CLEANING, entry.name) for entry in entries])
        return len(entries)

    async def leftovers(self, older_than: timedelta) -> list[BlobKey]:
        before = datetime.now(UTC) - older_than
        incoming: defaultdict[BlobKey, list[Entry]] = defaultdict(list)
        for entry in await self._bucket.entries(_CLEANING, INCOMING):
            if (key := key_of(entry.name)) is not None:
                incoming[key].append(entry)
        old = {key: entries for key, entries in incoming.items() if max(entry.modified for entry in entries) <= before}
        return [key for key, entries in old.items() if await self._is_whole(key, entries, before)]

    async def _is_whole(self, key: BlobKey, entries: list[Entry], before: datetime) -> bool:
        """Whether the old blob is sealed or suspended; an unfinished one is removed."""
        if any(entry.name.endswith(SUSPENDED) for entry in entries):
            return True
        await self._bucket.abort(_CLEANING, key.path)
        try:
            await self._bucket.size_of(_CLEANING, key.path)
            # Sealed, maybe after the look at its mark: its row may be about to be committed.
            return await self._bucket.modified(_CLEANING, mark_of(key)) <= before
        except ObjectMissing:
            # Nothing can become of it any more: its parts are gone.
            await self._bucket.delete(_CLEANING, mark_of(key))
            return False


class Addresses:
    """Signed URLs of a bucket, as clients see the server."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    async def of(self, name: str, *, disposition: str, content_type: str) -> str:
        wanted = {
            "Bucket": self._bucket,
            "Key": name,
            "ResponseContentDisposition": disposition,
            "ResponseContentType": content_type,
            "ResponseCacheControl": "private, no-store",
        }
        return await self._client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=ADDRESS_SECONDS)


class OpenObject:
    """An object to be read. Each piece is a request of its own: a slow reader holds no connection meanwhile."""

    def __init__(self, bucket: Bucket, key: BlobKey, size: int, addresses: Addresses | None) -> None:
        self.size = size
        self._bucket = bucket
        self._key = key
        self._addresses = addresses
        self._watched: Watch = as_they_are

    def watched_by(self, watch: Watch) -> None:
        self._watched = watch

    def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        return self._watched(self._read(start, end))

    async def _read(self, start: int, end: int) -> AsyncIterator[bytes]:
        for position in range(start, end, READ_BYTES):
            stop = min(end, position + READ_BYTES)
            try:
                yield await self._bucket.read(self._key.tenant_id, self._key.path, position, stop)
            except ObjectMissing as error:
                raise StorageUnavailable(retry_after=2) from error

    async def address(self, *, disposition: str, content_type: str) -> str | None:
        if self._addresses is None:
            return None
        return await self._addresses.of(self._key.path, disposition=disposition, content_type=content_type)

    async def close(self) -> None:
        pass


@asynccontextmanager
async def open_store(
    access: Access,
    *,
    connections: int,
    buffers: int,
    public_url: str | None = None,
    seconds: float = REQUEST_SECONDS,
) -> AsyncIterator[S3Store]:
    """Args:
    connections: to the server at once; half of them for one tenant.
    buffers: uploads that may have more than `FREE_BYTES` in memory at once, up to two parts each; half of them of one
        tenant.
    public_url: the server as clients reach it, if they may be sent there for content.
    """
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_of(access, connections=connections, seconds=seconds))
        # Unlimited waiting: each request waits once, and refusing one would leave something behind.
        turns = FairSemaphore(
            connections, each=max(1, connections // 2), waiting=sys.maxsize, waiting_in_all=sys.maxsize
        )
        bucket = Bucket(client, access.bucket, turns, seconds=seconds)
        places = FairSemaphore(buffers, each=max(1, buffers // 2))
        if public_url is None:
            yield S3Store(bucket, places)
            return
        public = await stack.enter_async_context(
            client_of(replace(access, url=public_url), connections=connections, seconds=seconds)
        )
        yield S3Store(bucket, places, Addresses(public, access.bucket))
