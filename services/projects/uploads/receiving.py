"""The bytes of a piece on their way into an upload's blob, and the record of how many are durable."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from services.projects.blobs.store import BlobStore, IncomingBlob
from services.projects.documents.authority_watch import while_allowed
from services.projects.documents.errors import DocumentTooLarge, EmptyDocument
from services.projects.projects.service import authorize
from services.projects.tenants import service as tenants
from services.projects.tenants.service import Quotas
from services.projects.upload_turns import Turn, Turns
from services.projects.uploads import repository
from services.projects.uploads.arrivals import Arrivals
from services.projects.uploads.errors import ExceedsLength
from services.projects.uploads.models import Upload
from services.projects.uploads.protocol import Checksum
from shared.auth import Principal, Scope
from shared.authority_client import Authority
from shared.failpoints import failpoint
from shared.fair_semaphore import FairSemaphore
from shared.transactions import TenantTransactions

# What has arrived is recorded as soon as it is this much, or has waited this long.
SAVE_BYTES: Final = 8 * 1024 * 1024
SAVE_SECONDS: Final = 3.0

BEFORE_SAVE = failpoint("tus.before_save", "bytes durable, the row says fewer")
AFTER_SAVE = failpoint("tus.after_save", "bytes durable and recorded, client not told")


@dataclass(frozen=True, slots=True)
class Service:
    """What the running service has for uploads."""

    authority: Authority
    blobs: BlobStore
    quotas: Quotas
    content_turns: FairSemaphore
    turns: Turns
    limit: int
    lasting: timedelta


@dataclass(slots=True)
class Piece:
    """Bytes to add, and what a request says of them. `length` is that of the whole upload, where it was not known."""

    offset: int
    chunks: AsyncIterator[bytes]
    size: int | None
    length: int | None = None
    checksum: Checksum | None = None


def require_acceptable(service: Service, length: int | None) -> None:
    """Raises EmptyDocument, DocumentTooLarge."""
    if length == 0:
        raise EmptyDocument
    if length is not None and length > service.limit:
        raise DocumentTooLarge


def require_room(service: Service, upload: Upload, size: int) -> None:
    """Raises ExceedsLength, DocumentTooLarge: it cannot have so many bytes."""
    if upload.length is not None and size > upload.length:
        raise ExceedsLength
    if size > service.limit:
        raise DocumentTooLarge


async def receive(
    service: Service,
    transactions: TenantTransactions,
    principal: Principal,
    upload: Upload,
    piece: Piece,
    turn: Turn,
) -> None:
    """Write the piece and record, again and again, how much has become durable; with a checksum, only once it holds."""

    async def check() -> None:
        now = await service.authority.now(principal)
        async with transactions.begin() as session:
            await authorize(session, now, project_id=upload.project_id, scope=Scope.DOCUMENTS_WRITE)

    arrivals = Arrivals(while_allowed(piece.chunks, check), turn)
    try:
        while not arrivals.is_over():
            async with service.blobs.resume(upload.blob_key, upload.state) as blob:
                await _fill(service, upload, blob, arrivals, piece.checksum)
                while piece.checksum is not None and not arrivals.is_over():
                    await _expect_own(transactions, upload)
                    await _fill(service, upload, blob, arrivals, piece.checksum)
                if piece.checksum is not None:
                    if arrivals.failure is not None:
                        break
                    piece.checksum.check()
                size, state = blob.size, await blob.suspend()
            await _save(service, transactions, upload, size, state)
    finally:
        await arrivals.close()
    if arrivals.failure is not None:
        raise arrivals.failure


async def _fill(
    service: Service, upload: Upload, blob: IncomingBlob, arrivals: Arrivals, checksum: Checksum | None
) -> None:
    until, most = time.monotonic() + SAVE_SECONDS, blob.size + SAVE_BYTES
    while blob.size < most and time.monotonic() < until and not arrivals.is_over():
        chunk = await arrivals.next(until)
        if chunk is not None:
            require_room(service, upload, blob.size + len(chunk))
            if checksum is not None:
                checksum.update(chunk)
            await blob.write(chunk)


async def _expect_own(transactions: TenantTransactions, upload: Upload) -> None:
    """Raises NotFound, UploadTakenOver."""
    async with transactions.begin() as session:
        await repository.written(session, upload)


async def _save(service: Service, transactions: TenantTransactions, upload: Upload, size: int, state: bytes) -> None:
    """Record what is durable.

    Raises:
        UploadTakenOver: another request has taken it over; what was written counts for nothing.
        NotFound: it was removed.
        QuotaExceeded: it is longer than there is room for.
    """
    await BEFORE_SAVE.reach()
    async with transactions.begin() as session:
        row = await repository.written(session, upload)
        more, row.received, row.state = size - row.received, size, state
        await session.flush()
        if more:
            await repository.renew(session, row, lasting=service.lasting)
        if row.length is None:
            await tenants.take(session, service.quotas, size=more)
    await AFTER_SAVE.reach()
    upload.received, upload.state, upload.expires_at = row.received, row.state, row.expires_at
