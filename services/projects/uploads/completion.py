"""From an upload's last byte to the row that refers to its blob: as `services.projects.documents.receiving`, from a
blob that is there already. What ends it before that row is committed leaves it to the next request for the upload.
"""

import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace

from services.projects.documents import storing
from services.projects.documents.errors import DuplicateDocument
from services.projects.documents.storing import Received, Stored
from services.projects.documents.upload import UploadRequest
from services.projects.projects.service import authorize
from services.projects.tenants import service as tenants
from services.projects.uploads import repository
from services.projects.uploads.errors import RefusedDuplicate, RefusedVersion
from services.projects.uploads.expiry import remove
from services.projects.uploads.models import Upload
from services.projects.uploads.receiving import Service
from services.projects.versions.errors import TooManyVersions
from shared.auth import Principal, Scope
from shared.failpoints import failpoint
from shared.transactions import TenantTransactions

AFTER_SEAL = failpoint("tus.after_seal", "all bytes durable and sealed, no document")
BEFORE_KEEP = failpoint("tus.before_keep", "document recorded, bytes not in their place")
AFTER_REFUSAL = failpoint("tus.after_refusal", "refused and removed, blob pending")


async def record(service: Service, transactions: TenantTransactions, principal: Principal, upload: Upload) -> None:
    """Make a complete upload, which the caller writes to, the document that it asks for.

    Identity is asked who the caller is now: its first byte may have been sent a day ago.

    Raises:
        RefusedDuplicate, RefusedVersion: the project does not take it; it is removed.
        Others as `services.projects.uploads.service.append`; it stays as it is.
    """
    async with service.blobs.resume(upload.blob_key, upload.state) as blob:
        received = Received(upload.blob_key, _request(upload), blob.size, await blob.seal())
        await AFTER_SEAL.reach()
        principal = await service.authority.now(principal)
        try:
            stored = await _store(service, transactions, principal, upload, received)
        except (DuplicateDocument, TooManyVersions) as refusal:
            await _refuse(transactions, upload)
            raise _refused(refusal) from refusal
        if stored.bytes_used:
            await blob.keep()
        else:
            await blob.discard()
    upload.document_id = stored.document.id


async def _store(
    service: Service, transactions: TenantTransactions, principal: Principal, upload: Upload, received: Received
) -> Stored:
    turn: AbstractAsyncContextManager[None] = nullcontext()
    if upload.duplicates is not None:
        turn = service.content_turns.turn((upload.tenant_id, upload.project_id, received.sha256))
    # Its bytes are counted already, until the document's are.
    quotas = replace(service.quotas, bytes=service.quotas.bytes + upload.reserved)
    async with turn, transactions.begin() as session:
        await authorize(session, principal, project_id=upload.project_id, scope=Scope.DOCUMENTS_WRITE)
        row = await repository.written(session, upload)
        stored = await storing.add(session, quotas, received, actor_id=principal.user_id)
        row.document_id = stored.document.id
        await session.flush()
        await tenants.give_back(session, size=upload.reserved, uploads=1)
    await BEFORE_KEEP.reach()
    return stored


async def _refuse(transactions: TenantTransactions, upload: Upload) -> None:
    async with transactions.begin() as session:
        await remove(session, await repository.written(session, upload))
    await AFTER_REFUSAL.reach()


def _refused(refusal: DuplicateDocument | TooManyVersions) -> RefusedDuplicate | RefusedVersion:
    if isinstance(refusal, TooManyVersions):
        return RefusedVersion()
    return RefusedDuplicate(uuid.UUID(str(refusal.members["document_id"])))


def _request(upload: Upload) -> UploadRequest:
    """What the client said when it began the upload."""
    return UploadRequest(
        content_type=upload.declared_type,
        content_length=upload.received,
        chunks=_nothing(),
        name=upload.name,
        metadata=upload.custom_metadata,
        duplicates=upload.duplicates,
    )


async def _nothing() -> AsyncIterator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for chunk in nothing:
        yield chunk
