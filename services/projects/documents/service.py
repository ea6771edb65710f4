"""Documents: behaviour. This service owns a document's status; indexing reports the outcome of its jobs.

Every change bumps the document's `revision` under a lock on its row; it is the sequence of the document's events.
"""

import uuid
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.batches import counting
from services.projects.blobs.store import BlobStore, OpenBlob
from services.projects.documents import repository, statuses, storing
from services.projects.documents.authority_watch import while_allowed
from services.projects.documents.errors import LinkedDocument, NotCancellable, NotRetryable
from services.projects.documents.models import Document, DocumentStatus
from services.projects.documents.names import wanted_name
from services.projects.documents.receiving import expect_room, receive_and_store
from services.projects.documents.storing import Received, Stored
from services.projects.documents.upload import UploadRequest
from services.projects.projects.service import authorize
from services.projects.purges import service as purges
from services.projects.tenants import service as tenants
from services.projects.tenants.service import Quotas
from services.projects.versions import repository as versions
from services.projects.versions.models import DocumentVersion
from shared import outbox
from shared.auth import Principal, Scope
from shared.authority_client import Authority
from shared.errors import NotFound
from shared.etags import check_match
from shared.events.projects import (
    DocumentCancelRequested,
    DocumentDeleted,
    DocumentRetryRequested,
)
from shared.fair_semaphore import FairSemaphore
from shared.pagination import cut_page, decode_cursor
from shared.transactions import TenantTransactions

# Up to this size checking permission before the bytes costs more than the bytes.
SMALL_BYTES = 64 * 1024
POSSIBLE: Final[dict[Literal["cancel", "retry"], frozenset[DocumentStatus]]] = {
    "cancel": frozenset({"queued", "indexing"}),
    "retry": frozenset({"failed", "cancelled"}),
}
"""The statuses in which a document can be cancelled or retried."""


async def upload(
    transactions: TenantTransactions,
    principal: Principal,
    authority: Authority,
    blobs: BlobStore,
    quotas: Quotas,
    turns: FairSemaphore,
    *,
    project_id: uuid.UUID,
    request: UploadRequest,
    limit: int,
) -> Stored:
    """Store a document, or what `duplicates` makes of it.

    Permission is checked before the first byte too, for all but small documents.

    Raises:
        Unauthenticated, NotFound, Forbidden: the caller is not allowed to, or no longer.
        Unavailable: identity cannot tell whether the caller still is; nothing is stored.
        QuotaExceeded, TooManyVersions: there is no room for it.
        DuplicateDocument: the project has the content and the policy is `reject`.
        BatchClosed: the batch takes no more documents; NotFound if there is no such.
        DocumentTooLarge, EmptyDocument, StorageFull, ...: as `upload.receive` and the blob store say.
    """
    if request.content_length is None or request.content_length > SMALL_BYTES:
        async with transactions.begin() as session:
            await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)
            await expect_room(session, quotas, request)
            if request.batch_id is not None:
                await counting.expect_open(session, project_id=project_id, batch_id=request.batch_id)

    async def store(session: AsyncSession, now: Principal, received: Received) -> Stored:
        return await storing.add(session, quotas, received, actor_id=now.user_id)

    return await receive_and_store(
        transactions,
        principal,
        authority,
        blobs,
        project_id=project_id,
        request=request,
        limit=limit,
        store=store,
        turns=turns,
    )


async def get(
    session: AsyncSession, principal: Principal, *, project_id: uuid.UUID, document_id: uuid.UUID
) -> Document:
    await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_READ)
    return await found(session, project_id, document_id)


async def page(
    session: AsyncSession,
    principal: Principal,
    *,
    project_id: uuid.UUID,
    status: DocumentStatus | None,
    name: str | None,
    sha256: str | None,
    limit: int,
    cursor: str | None,
    batch_id: uuid.UUID | None = None,
) -> tuple[list[Document], str | None]:
    """Documents of a project, newest first; `name` is normalised like that of an upload."""
    await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_READ)
    wanted = None if name is None else wanted_name(name)
    if name is not None and wanted is None:
        return [], None
    rows = await repository.page_for_project(
        session,
        project_id=project_id,
        status=status,
        name=wanted,
        sha256=sha256,
        batch_id=batch_id,
        after=decode_cursor(cursor),
        count=limit + 1,
    )
    return cut_page(rows, limit, lambda document: (document.created_at, document.id))


async def update(
    session: AsyncSession,
    principal: Principal,
    *,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    if_match: str | None,
    changes: dict[str, Any],
) -> Document:
    """Apply `changes` of name and metadata; the content stays."""
    document = await locked(session, principal, project_id, document_id)
    check_match(if_match, document.revision)
    if changes:
        document.name = changes.get("name", document.name)
        document.custom_metadata = changes.get("metadata", document.custom_metadata)
        storing.announce_update(session, document, principal.user_id)
    return document


async def delete(
    session: AsyncSession,
    principal: Principal,
    *,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    if_match: str | None,
) -> None:
    document = await locked(session, principal, project_id, document_id)
    check_match(if_match, document.revision)
    await remove(session, principal, document)


async def remove(session: AsyncSession, principal: Principal, document: Document) -> None:
    """Leave a tombstone of a locked document, and record that the bytes of all versions must be removed unless another
    document has them. When nothing is left of it anywhere, that is told (`purges`)."""
    statuses.bury(session, document)
    document.deleted_at = datetime.now(UTC)
    document.name, document.title, document.custom_metadata = "", None, {}
    document.revision += 1
    replaced = await versions.remove_all(session, document_id=document.id) if document.version > 1 else []
    blobs = {document.blob: document.size, **dict(replaced)}
    outbox.publish(session, DocumentDeleted(**_identity(document, principal)), sequence=document.revision)
    await storing.release_links(session, document, principal.user_id)
    await session.flush()
    sizes = [document.size, *(size for _, size in replaced)]
    purges.begin(session, document.id, versions=len(sizes), blobs=len(blobs))
    await repository.remember_blob_deletions(session, document.project_id, document.id, blobs)
    await tenants.give_back(session, documents=len(sizes), size=sum(sizes))


async def cancel(
    session: AsyncSession, principal: Principal, *, project_id: uuid.UUID, document_id: uuid.UUID
) -> Document:
    """Ask indexing to stop; the status follows its event.

    Raises:
        NotCancellable: there is nothing to stop.
        LinkedDocument: what it is linked to is indexed, not the document itself.
    """
    document = await locked(session, principal, project_id, document_id)
    if document.linked:
        raise LinkedDocument
    if document.status not in POSSIBLE["cancel"]:
        raise NotCancellable
    await stop(session, principal, document)
    return document


async def stop(session: AsyncSession, principal: Principal, document: Document) -> None:
    """`cancel`, for a locked document of which it is known to be possible."""
    document.revision += 1
    outbox.publish(session, DocumentCancelRequested(**_identity(document, principal)), sequence=document.revision)


async def retry(
    session: AsyncSession, principal: Principal, *, project_id: uuid.UUID, document_id: uuid.UUID
) -> Document:
    """Queue a failed or cancelled document again.

    Raises:
        NotRetryable: it did not fail and was not cancelled.
        LinkedDocument: as `cancel`.
    """
    document = await locked(session, principal, project_id, document_id)
    if document.linked:
        raise LinkedDocument
    if document.status not in POSSIBLE["retry"]:
        raise NotRetryable
    await queue_again(session, principal, document)
    return document


async def queue_again(session: AsyncSession, principal: Principal, document: Document) -> None:
    """`retry`, for a locked document of which it is known to be possible."""
    statuses.enter(session, document, "queued")
    document.error_code = document.error_reason = None
    document.revision += 1
    outbox.publish(session, DocumentRetryRequested(**_identity(document, principal)), sequence=document.revision)


async def content(
    transactions: TenantTransactions,
    principal: Principal,
    authority: Authority,
    blobs: BlobStore,
    *,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    version: int | None = None,
) -> tuple[Document, DocumentVersion, OpenBlob]:
    """The bytes of a version of a document, the newest if none is given, for a client. No transaction is open while
    they are sent; a long transfer ends soon after the document is deleted or the right to read it is revoked."""

    async def check() -> None:
        now = await authority.now(principal)
        async with transactions.begin() as session:
            await get(session, now, project_id=project_id, document_id=document_id)

    async with transactions.begin() as session:
        document = await get(session, principal, project_id=project_id, document_id=document_id)
        wanted = await numbered(session, document, version or document.version)
    blob = await blobs.open(wanted.blob_key)
    blob.watched_by(lambda chunks: while_allowed(chunks, check))
    return document, wanted, blob


async def version_content(
    transactions: TenantTransactions, blobs: BlobStore, *, project_id: uuid.UUID, document_id: uuid.UUID, version: int
) -> tuple[Document, DocumentVersion, OpenBlob]:
    """The bytes of one version, for another service. Documents of a deleted project are still indexed, since it may be
    restored."""
    async with transactions.begin() as session:
        document = await found(session, project_id, document_id)
        wanted = await numbered(session, document, version)
    return document, wanted, await blobs.open(wanted.blob_key)


async def numbered(session: AsyncSession, document: Document, number: int) -> DocumentVersion:
    """A version of the document.

    Raises:
        NotFound: it has none with that number.
    """
    if number == document.version:
        return document.newest_version
    found = await versions.by_number(session, document_id=document.id, number=number)
    if found is None:
        raise NotFound
    return found


async def found(session: AsyncSession, project_id: uuid.UUID, document_id: uuid.UUID) -> Document:
    """A document that is not deleted, for a caller whose rights are known."""
    document = await repository.by_id(session, project_id=project_id, document_id=document_id)
    if document is None:
        raise NotFound
    return document


async def locked(
    session: AsyncSession, principal: Principal, project_id: uuid.UUID, document_id: uuid.UUID
) -> Document:
    """The document, locked by this transaction, which may change it."""
    await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)
    document = await repository.by_id(session, project_id=project_id, document_id=document_id, lock=True)
    if document is None:
        raise NotFound
    return document


def _identity(document: Document, principal: Principal) -> dict[str, Any]:
    """The fields that every event of a document has."""
    return {
        "project_id": document.project_id,
        "document_id": document.id,
        "version": document.version,
        "actor_id": principal.user_id,
    }
