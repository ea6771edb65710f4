"""Documents: behaviour. This service owns a document's status; indexing reports the outcome of its jobs.

Every change bumps the document's `revision` under a lock on its row; it is the sequence of the document's events.
"""

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.blobs import BlobKey, BlobStore, OpenBlob
from services.projects.documents import repository
from services.projects.documents.authority_watch import while_allowed
from services.projects.documents.errors import DuplicateDocument, NotCancellable, NotRetryable
from services.projects.documents.models import Document, DocumentStatus
from services.projects.documents.names import wanted_name
from services.projects.documents.upload import UploadRequest, receive
from services.projects.ids import uuid7
from services.projects.projects.service import authorize
from services.projects.tenants import service as tenants
from services.projects.tenants.service import Quotas
from shared import outbox
from shared.auth import Principal, Scope
from shared.authority_client import Authority
from shared.errors import NotFound
from shared.etags import check_match
from shared.events.projects import (
    DocumentCancelRequested,
    DocumentDeleted,
    DocumentRetryRequested,
    DocumentUpdated,
    DocumentUploaded,
)
from shared.failpoints import failpoint
from shared.pagination import cut_page, decode_cursor
from shared.transactions import TenantTransactions

# Up to this size checking permission before the bytes costs more than the bytes.
SMALL_BYTES = 64 * 1024

AFTER_SEAL = failpoint("upload.after_seal", "bytes durable, no row")
BEFORE_KEEP = failpoint("upload.before_keep", "row committed, bytes not in their place")


async def upload(
    transactions: TenantTransactions,
    principal: Principal,
    authority: Authority,
    blobs: BlobStore,
    quotas: Quotas,
    *,
    project_id: uuid.UUID,
    request: UploadRequest,
    limit: int,
) -> Document:
    """Store a document. No transaction is open while its bytes arrive; they are durable before its row is written.

    Permission is checked after the last byte, and for all but small documents before the first one too. The check after
    the last byte always asks identity: a body may end long after its token was verified, here or on its way.

    Raises:
        Unauthenticated, NotFound, Forbidden: the caller is not allowed to, or no longer.
        Unavailable: identity cannot tell whether the caller still is; nothing is stored.
        QuotaExceeded: the tenant has no room for it.
        DuplicateDocument: the project has the content and the policy is `reject`.
        DocumentTooLarge, EmptyDocument, StorageFull, ...: as `upload.receive` and the blob store say.
    """
    if request.content_length is None or request.content_length > SMALL_BYTES:
        async with transactions.begin() as session:
            await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)
            # The size of a form or a chunked body is unknown, but at least a byte: no document is empty.
            known = 0 if request.is_form else request.content_length or 0
            await tenants.expect_room(session, quotas, size=max(1, known))

    async def check() -> None:
        now = await authority.now(principal)
        async with transactions.begin() as session:
            await authorize(session, now, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)

    request.chunks = while_allowed(request.chunks, check)
    key = BlobKey(transactions.tenant_id, project_id, uuid7(), 1)
    async with blobs.receive(key) as blob:
        await receive(request, blob, limit=limit)
        sha256 = await blob.seal()
        await AFTER_SEAL.reach()
        principal = await authority.now(principal)
        async with transactions.begin() as session:
            await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)
            document = await _add(session, principal, key=key, request=request, size=blob.size, sha256=sha256)
            await tenants.take(session, quotas, documents=1, size=blob.size)
        await BEFORE_KEEP.reach()
        await blob.keep()
    return document


async def _add(
    session: AsyncSession, principal: Principal, *, key: BlobKey, request: UploadRequest, size: int, sha256: str
) -> Document:
    reject = request.duplicates == "reject"
    same = await repository.first_with_content(session, project_id=key.project_id, sha256=sha256, alone=reject)
    if same is not None and reject:
        raise DuplicateDocument(f"The same content is already stored as document {same}.")
    document = Document(
        id=key.document_id,
        project_id=key.project_id,
        name=request.name,
        custom_metadata=request.metadata,
        declared_type=request.content_type,
        size=size,
        sha256=sha256,
        version=key.version,
        revision=1,
        status="queued",
        duplicate_of=same,
        job_sequence=0,
    )
    session.add(document)
    await session.flush()
    event = DocumentUploaded(
        project_id=document.project_id,
        document_id=document.id,
        version=document.version,
        actor_id=principal.user_id,
        name=document.name,
        content_type=document.content_type,
        size=size,
        sha256=sha256,
        metadata=document.custom_metadata,
        lane="interactive",
        created_at=document.created_at,
    )
    outbox.publish(session, event, sequence=document.revision)
    await session.flush()
    return document


async def get(
    session: AsyncSession, principal: Principal, *, project_id: uuid.UUID, document_id: uuid.UUID
) -> Document:
    await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_READ)
    return await _found(session, project_id, document_id)


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
    document = await _locked(session, principal, project_id, document_id)
    check_match(if_match, document.revision)
    if changes:
        document.name = changes.get("name", document.name)
        document.custom_metadata = changes.get("metadata", document.custom_metadata)
        document.revision += 1
        event = DocumentUpdated(**_identity(document, principal), name=document.name, metadata=document.custom_metadata)
        outbox.publish(session, event, sequence=document.revision)
    return document


async def delete(
    session: AsyncSession,
    principal: Principal,
    *,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    if_match: str | None,
) -> None:
    """Leave a tombstone, and record that the bytes must be removed."""
    document = await _locked(session, principal, project_id, document_id)
    check_match(if_match, document.revision)
    document.deleted_at = datetime.now(UTC)
    document.name, document.title, document.custom_metadata = "", None, {}
    document.revision += 1
    repository.remember_blob_deletion(session, document)
    outbox.publish(session, DocumentDeleted(**_identity(document, principal)), sequence=document.revision)
    await session.flush()
    await tenants.give_back(session, documents=1, size=document.size)


async def cancel(
    session: AsyncSession, principal: Principal, *, project_id: uuid.UUID, document_id: uuid.UUID
) -> Document:
    """Ask indexing to stop; the status follows its event.

    Raises:
        NotCancellable: there is nothing to stop.
    """
    document = await _locked(session, principal, project_id, document_id)
    if document.status not in ("queued", "indexing"):
        raise NotCancellable
    document.revision += 1
    outbox.publish(session, DocumentCancelRequested(**_identity(document, principal)), sequence=document.revision)
    return document


async def retry(
    session: AsyncSession, principal: Principal, *, project_id: uuid.UUID, document_id: uuid.UUID
) -> Document:
    """Queue a failed or cancelled document again.

    Raises:
        NotRetryable: it did not fail and was not cancelled.
    """
    document = await _locked(session, principal, project_id, document_id)
    if document.status not in ("failed", "cancelled"):
        raise NotRetryable
    document.status = "queued"
    document.error_code = document.error_reason = None
    document.revision += 1
    outbox.publish(session, DocumentRetryRequested(**_identity(document, principal)), sequence=document.revision)
    return document


async def content(
    transactions: TenantTransactions,
    principal: Principal,
    authority: Authority,
    blobs: BlobStore,
    *,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
) -> tuple[Document, OpenBlob]:
    """A document and its bytes, for a client. No transaction is open while they are sent; a long transfer ends soon
    after the document is deleted or the right to read it is revoked."""

    async def check() -> None:
        now = await authority.now(principal)
        async with transactions.begin() as session:
            await get(session, now, project_id=project_id, document_id=document_id)

    async with transactions.begin() as session:
        document = await get(session, principal, project_id=project_id, document_id=document_id)
    blob = await blobs.open(document.blob_key)
    blob.watched_by(lambda chunks: while_allowed(chunks, check))
    return document, blob


async def version_content(
    transactions: TenantTransactions, blobs: BlobStore, *, project_id: uuid.UUID, document_id: uuid.UUID, version: int
) -> tuple[Document, OpenBlob]:
    """The bytes of one version, for another service. Documents of a deleted project are still indexed, since it may be
    restored."""
    async with transactions.begin() as session:
        document = await _found(session, project_id, document_id)
    if document.version != version:
        raise NotFound
    return document, await blobs.open(document.blob_key)


async def _found(session: AsyncSession, project_id: uuid.UUID, document_id: uuid.UUID) -> Document:
    document = await repository.by_id(session, project_id=project_id, document_id=document_id)
    if document is None:
        raise NotFound
    return document


async def _locked(
    session: AsyncSession, principal: Principal, project_id: uuid.UUID, document_id: uuid.UUID
) -> Document:
    """The document, locked by this transaction."""
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
