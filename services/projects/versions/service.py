"""Versions of a document's content: a new one replaces the newest, and each can be listed, fetched and restored.

A version never changes and stays until its document is deleted. Search finds the live one, which is replaced in one
transaction of the indexing service once the new one is indexed; if that fails or is cancelled, it stays live.
"""

import uuid
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.blobs.store import BlobStore
from services.projects.documents import service as documents
from services.projects.documents import storing
from services.projects.documents.models import Document
from services.projects.documents.receiving import expect_room, receive_and_store
from services.projects.documents.storing import Received, Stored
from services.projects.documents.upload import UploadRequest
from services.projects.projects.service import authorize
from services.projects.tenants.service import Quotas
from services.projects.versions import repository
from services.projects.versions.errors import NewestVersion
from services.projects.versions.models import DocumentVersion
from shared.auth import Principal, Scope
from shared.authority_client import Authority
from shared.etags import check_match
from shared.pagination import InvalidCursor, cut_page, decode_cursor
from shared.transactions import TenantTransactions

_LARGEST_NUMBER: Final = 2**31 - 1


async def upload(
    transactions: TenantTransactions,
    principal: Principal,
    authority: Authority,
    blobs: BlobStore,
    quotas: Quotas,
    *,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    if_match: str | None,
    request: UploadRequest,
    limit: int,
) -> Document:
    """Store content as the document's next version; its name stays.

    Raises:
        NotFound, Forbidden, PreconditionFailed: before the first byte, or because that changed meanwhile.
        TooManyVersions: it has as many as it may.
        Others as `documents.service.upload`.
    """
    async with transactions.begin() as session:
        await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)
        document = await documents.found(session, project_id, document_id)
        check_match(if_match, document.revision)
        await expect_room(session, quotas, request)
    request.name = document.name

    async def store(session: AsyncSession, now: Principal, received: Received) -> Stored:
        document = await documents.locked(session, now, project_id, document_id)
        check_match(if_match, document.revision)
        content = storing.version_of(received, now.user_id)
        await storing.add_version(session, quotas, document, content, metadata=request.metadata)
        return Stored(document)

    stored = await receive_and_store(
        transactions, principal, authority, blobs, project_id=project_id, request=request, limit=limit, store=store
    )
    return stored.document


async def page(
    session: AsyncSession,
    principal: Principal,
    *,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    limit: int,
    cursor: str | None,
) -> tuple[list[DocumentVersion], str | None]:
    """The document's versions, newest first."""
    document = await documents.get(session, principal, project_id=project_id, document_id=document_id)
    after = decode_cursor(cursor)
    newest = [document.newest_version] if after is None else []
    before = document.version if after is None else after[1].int
    if before > _LARGEST_NUMBER:
        raise InvalidCursor
    rows = await repository.page_for_document(session, document_id=document.id, before=before, count=limit + 1)
    # Numbers have no gaps and never change: the last one seen is the position.
    return cut_page([*newest, *rows], limit, lambda version: (version.created_at, uuid.UUID(int=version.number)))


async def restore(
    session: AsyncSession,
    principal: Principal,
    quotas: Quotas,
    *,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    number: int,
    if_match: str | None,
) -> Document:
    """Make the content of an older version the newest one, sharing its bytes.

    Raises:
        NewestVersion: it is the newest already.
        NotFound, PreconditionFailed, QuotaExceeded, TooManyVersions: as `upload`.
    """
    document = await documents.locked(session, principal, project_id, document_id)
    check_match(if_match, document.revision)
    if number == document.version:
        raise NewestVersion
    restored = await documents.numbered(session, document, number)
    content = DocumentVersion(
        declared_type=restored.declared_type,
        size=restored.size,
        sha256=restored.sha256,
        blob_id=restored.blob_id,
        uploaded_by=principal.user_id,
    )
    await storing.add_version(session, quotas, document, content)
    return document
