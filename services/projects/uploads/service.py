"""Uploads that are sent in pieces, each continued where the last one ended, whatever ended it (tus 1.0.0).

Guarantees: `received` bytes of an upload are durable, and what a request has sent counts every few megabytes and
seconds, and when its connection ends. Bytes that come with a checksum count all together or not at all. Whatever dies
between the last byte and the document's row, the next request for the upload records it, once.

No transaction is open while bytes arrive. Locks are taken in this order: the upload, its expiry, what
`services.projects.documents.storing` locks, blobs to be removed, the tenant's usage.
"""

import uuid

from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.blobs.store import BlobKey
from services.projects.ids import uuid7
from services.projects.projects.service import authorize
from services.projects.tenants import service as tenants
from services.projects.uploads import completion, repository
from services.projects.uploads.errors import ExceedsLength, LengthKnown, WrongOffset
from services.projects.uploads.expiry import remove
from services.projects.uploads.models import Upload
from services.projects.uploads.protocol import Declared
from services.projects.uploads.receiving import Piece, Service, receive, require_acceptable, require_room
from shared.auth import Principal, Scope
from shared.errors import NotFound, QuarryError
from shared.failpoints import failpoint
from shared.transactions import TenantTransactions

BEFORE_CREATE = failpoint("tus.before_create", "empty blob suspended, no row")
AFTER_TAKE = failpoint("tus.after_take", "taken over from whoever received bytes before, nothing received")
AFTER_REMOVE = failpoint("tus.after_remove", "row removed, blob pending")


async def create(
    service: Service,
    transactions: TenantTransactions,
    principal: Principal,
    *,
    project_id: uuid.UUID,
    declared: Declared,
    sent_metadata: str,
    length: int | None,
    piece: Piece | None,
) -> Upload:
    """A new upload, with its first bytes where they are sent along.

    Raises:
        NotFound, Forbidden, QuotaExceeded, DocumentTooLarge, EmptyDocument: nothing is stored.
        Others as `append`; then it is removed, since the client does not know it.
    """
    require_acceptable(service, length)
    async with transactions.begin() as session:
        await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)
        await tenants.expect_room(session, service.quotas, size=length or 1)
    key = BlobKey.of_upload(transactions.tenant_id, project_id, uuid7())
    upload = Upload(
        id=key.document_id,
        project_id=project_id,
        name=declared.name,
        declared_type=declared.content_type,
        custom_metadata=declared.metadata,
        duplicates=declared.duplicates,
        sent_metadata=sent_metadata,
        length=length,
        received=0,
        created_by=principal.user_id,
    )
    async with service.blobs.receive(key) as blob:
        upload.state = await blob.suspend()
        await BEFORE_CREATE.reach()
        try:
            async with transactions.begin() as session:
                await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)
                await repository.add(session, upload, lasting=service.lasting)
                await tenants.take(session, service.quotas, size=upload.reserved, uploads=1)
        except QuarryError:
            # Raised before the commit.
            await blob.discard()
            raise
    if piece is None:
        return upload
    try:
        return await append(service, transactions, principal, project_id=project_id, upload_id=upload.id, piece=piece)
    except Exception:
        await terminate(service, transactions, principal, project_id=project_id, upload_id=upload.id)
        raise


async def get(session: AsyncSession, principal: Principal, *, project_id: uuid.UUID, upload_id: uuid.UUID) -> Upload:
    """An upload as it is, for who may write documents into its project."""
    await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)
    upload = await repository.by_id(session, project_id=project_id, upload_id=upload_id)
    if upload is None:
        raise NotFound
    return upload


async def look_at(
    transactions: TenantTransactions, principal: Principal, *, project_id: uuid.UUID, upload_id: uuid.UUID
) -> Upload:
    """As `get`."""
    async with transactions.begin() as session:
        return await get(session, principal, project_id=project_id, upload_id=upload_id)


async def resume(
    service: Service,
    transactions: TenantTransactions,
    principal: Principal,
    *,
    project_id: uuid.UUID,
    upload_id: uuid.UUID,
) -> Upload:
    """The upload at the offset where the next piece begins: nobody else adds to it any more. One that is complete is
    recorded, if it is not yet.

    Raises:
        As `append`.
    """
    await _end_other(service, transactions, principal, project_id, upload_id)
    with service.turns.take(transactions.tenant_id, upload_id):
        upload = await _taken(service, transactions, principal, project_id, upload_id)
        if upload.unrecorded:
            await completion.record(service, transactions, principal, upload)
    return upload


async def append(
    service: Service,
    transactions: TenantTransactions,
    principal: Principal,
    *,
    project_id: uuid.UUID,
    upload_id: uuid.UUID,
    piece: Piece,
) -> Upload:
    """Add a piece. With the last byte the upload becomes a document, in the way `duplicates` says.

    Raises:
        Unauthenticated, NotFound, Forbidden: the caller is not allowed to, or no longer.
        WrongOffset: the piece does not begin where the upload ends.
        ExceedsLength, DocumentTooLarge, QuotaExceeded: there is no room for it.
        ChecksumMismatch, UploadAborted, UploadTakenOver, BlobBusy, StorageFull, StorageUnavailable: a part of it may
            have been added; with a checksum, nothing.
        RefusedDuplicate, RefusedVersion: it is complete and was removed, since its project does not take it.
    """
    await _end_other(service, transactions, principal, project_id, upload_id)
    with service.turns.take(transactions.tenant_id, upload_id) as turn:
        upload = await _taken(service, transactions, principal, project_id, upload_id, piece)
        if not upload.complete:
            await receive(service, transactions, principal, upload, piece, turn)
        if upload.unrecorded:
            await completion.record(service, transactions, principal, upload)
    return upload


async def terminate(
    service: Service,
    transactions: TenantTransactions,
    principal: Principal,
    *,
    project_id: uuid.UUID,
    upload_id: uuid.UUID,
) -> None:
    """Remove an upload; the document that it has become stays."""
    await _end_other(service, transactions, principal, project_id, upload_id)
    async with transactions.begin() as session:
        await remove(session, await _locked(session, principal, project_id, upload_id))
    await AFTER_REMOVE.reach()


async def _end_other(
    service: Service,
    transactions: TenantTransactions,
    principal: Principal,
    project_id: uuid.UUID,
    upload_id: uuid.UUID,
) -> None:
    """End the request that writes to the upload in this process, if the caller may write to it."""
    if service.turns.taken(transactions.tenant_id, upload_id):
        await look_at(transactions, principal, project_id=project_id, upload_id=upload_id)
        await service.turns.end(transactions.tenant_id, upload_id)


async def _locked(session: AsyncSession, principal: Principal, project_id: uuid.UUID, upload_id: uuid.UUID) -> Upload:
    await get(session, principal, project_id=project_id, upload_id=upload_id)
    upload = await repository.locked(session, upload_id=upload_id)
    if upload is None:
        raise NotFound
    return upload


async def _taken(
    service: Service,
    transactions: TenantTransactions,
    principal: Principal,
    project_id: uuid.UUID,
    upload_id: uuid.UUID,
    piece: Piece | None = None,
) -> Upload:
    """The upload, taken over from whoever had it. With a piece: if the piece can be added."""
    async with transactions.begin() as session:
        upload = await _locked(session, principal, project_id, upload_id)
        if piece is not None:
            await _expect(service, session, upload, piece)
        upload.writer = uuid.uuid4()
    await AFTER_TAKE.reach()
    return upload


async def _expect(service: Service, session: AsyncSession, upload: Upload, piece: Piece) -> None:
    if piece.offset != upload.received:
        raise WrongOffset
    if piece.length is not None and piece.length != upload.length:
        if upload.length is not None:
            raise LengthKnown
        require_acceptable(service, piece.length)
        if piece.length < upload.received:
            raise ExceedsLength
        upload.length = piece.length
        await session.flush()
        await tenants.take(session, service.quotas, size=piece.length - upload.received)
    if piece.size is not None:
        require_room(service, upload, upload.received + piece.size)
        if upload.length is None:
            await tenants.expect_room(session, service.quotas, size=max(1, piece.size))
