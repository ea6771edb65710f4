"""What a store of blobs does.

A blob is sealed before the transaction that records it, and kept after that transaction has committed. So:
- a document whose upload returned 201 has its bytes in the store, whatever crashes (sealed blobs are read too);
- an upload that ended in any other way leaves at most one unfinished, suspended or sealed blob, which `leftovers` finds
  without walking the whole store. For a sealed or suspended blob its row decides, which also shows whether a commit of
  unknown outcome happened.

Keys are made of UUIDs and a number, so no client input reaches a path or a name. Tenants take turns at what a store has
a limited number of, and each may have half of it at a time; cleaning counts as one tenant.

Fails by: `StorageFull` when there is no space left, `StorageUnavailable` for everything else.
"""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, Self

from shared.errors import QuarryError, Unavailable

Watch = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]


class StorageFull(QuarryError):
    status = 507
    code = "storage_full"
    detail = "There is no space left to store documents."


class StorageUnavailable(Unavailable):
    code = "storage_unavailable"
    detail = "The document store is unavailable right now; try again shortly."


class BlobBusy(QuarryError):
    status = 423
    code = "upload_locked"
    detail = "Another request is still writing to this upload; try again shortly."


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
        """The key that what is incoming is named after; None for a name that is not ours."""
        try:
            tenant_id, project_id, document_id, version = name.split(".")
            key = cls(uuid.UUID(tenant_id), uuid.UUID(project_id), uuid.UUID(document_id), int(version))
        except ValueError:
            return None
        return key if key.incoming_name == name else None


class IncomingBlob(Protocol):
    """One upload under way; `size` counts the bytes of the blob so far. Used by one task at a time."""

    key: BlobKey
    size: int

    async def write(self, data: bytes | memoryview) -> None: ...

    async def suspend(self) -> bytes:
        """Make everything written so far durable, to be continued with `BlobStore.resume`; the blob takes no more here.

        Returns: what to resume from: opaque, less than 64 KiB, for the caller to record.
        """
        ...

    async def seal(self) -> str:
        """Make the blob durable and readable; returns its sha256 in hexadecimal."""
        ...

    async def keep(self) -> None:
        """To be called once the row is committed."""
        ...

    async def discard(self) -> None:
        """Remove what was written, even when the task is being cancelled."""
        ...


class OpenBlob(Protocol):
    """A blob open for reading; `size` in bytes."""

    size: int

    def watched_by(self, watch: Watch) -> None:
        """Let `watch` end the bytes early, by raising."""
        ...

    def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to, not including, `end`.

        Raises:
            StorageUnavailable: they cannot be read, or are fewer than they were.
        """
        ...

    async def address(self, *, disposition: str, content_type: str) -> str | None:
        """A URL from which a client without credentials may fetch the blob during the next minute, and gets it with
        these headers; None if all content is sent by the service."""
        ...

    async def close(self) -> None: ...


class BlobStore(Protocol):
    async def check(self) -> None:
        """Readiness. Raises when nothing can be written."""
        ...

    def receive(self, key: BlobKey) -> AbstractAsyncContextManager[IncomingBlob]:
        """A blob to write. Removed after a block that fails, unless the commit may have happened or the blob was
        suspended."""
        ...

    def resume(self, key: BlobKey, state: bytes) -> AbstractAsyncContextManager[IncomingBlob]:
        """The blob as it was when `suspend` returned `state`; bytes written since then are dropped. Nothing is removed
        when the block fails: a suspended blob stays until `discard` or `seal`. One that was sealed meanwhile is
        suspended again: only to be used for a blob that no document has.

        Raises:
            StorageUnavailable: there is no such suspended blob.
            BlobBusy: a process that resumed it before goes on writing.
        """
        ...

    async def keep(self, key: BlobKey) -> None:
        """Move a sealed blob to its place. A failure loses nothing: it is read where it is, and moved later."""
        ...

    async def open(self, key: BlobKey) -> OpenBlob:
        """The blob, open for reading; close it.

        Raises:
            StorageUnavailable: it is not there, although its caller has a row that says so.
        """
        ...

    async def remove(self, key: BlobKey) -> None:
        """Remove the blob wherever it is, sealed, suspended or kept; returns once that is durable. Removing it again is
        no error."""
        ...

    async def remove_some_of(self, tenant_id: uuid.UUID, *, count: int) -> int:
        """Remove at most `count` blobs of a tenant that makes no new ones; returns how many were removed.

        Incoming blobs go first: one that is being moved to its place meanwhile is found there later.
        """
        ...

    async def leftovers(self, older_than: timedelta) -> list[BlobKey]:
        """Remove unfinished blobs untouched for `older_than`; returns the keys of sealed and suspended ones as old, to
        be kept or removed."""
        ...


def as_they_are(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The watch of a blob that nobody watches."""
    return chunks
