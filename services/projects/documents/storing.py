"""What an upload becomes once its bytes are durable: a document, a link to one, or a version of one. Each function is
part of one transaction, and announces what it changes.

Equal content. Two uploads that ask what the project has already (`duplicates`) decide one after the other, under a
lock on the content. A link holds on to the document it is linked to while it is made, so that one never points to a
document whose content has gone. When that document is deleted or replaced, its oldest link is indexed in its place and
the others are linked to it.

Locks are taken in this order: content, name, document, documents linked to it, blobs to be removed, the tenant's usage,
batches.
"""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.batches import counting
from services.projects.blobs.store import BlobKey
from services.projects.documents import repository, statuses
from services.projects.documents.errors import DuplicateDocument
from services.projects.documents.models import Document
from services.projects.documents.upload import UploadRequest
from services.projects.tenants import service as tenants
from services.projects.tenants.service import Quotas
from services.projects.versions.errors import TooManyVersions
from services.projects.versions.models import DocumentVersion
from shared import outbox
from shared.events.projects import DocumentIndexed, DocumentUpdated, DocumentUploaded, Lane

# Bounds of what one request or job event changes in one transaction.
MOST_VERSIONS: Final = 1000
MOST_LINKS: Final = 256


@dataclass(frozen=True, slots=True)
class Received:
    """The bytes of an upload, with what the client said of them."""

    key: BlobKey
    request: UploadRequest
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Stored:
    """`bytes_used`: the document refers to the upload's own blob. `changed`: there is something new."""

    document: Document
    bytes_used: bool = True
    changed: bool = True


async def add(session: AsyncSession, quotas: Quotas, received: Received, *, actor_id: uuid.UUID | None) -> Stored:
    """What `duplicates` says. Nothing said: a document of its own, which names the first one with its content.

    Raises:
        DuplicateDocument: the project has the content, and the policy is `reject`.
        QuotaExceeded, TooManyVersions: there is no room for it.
        NotFound, BatchClosed: it is for a batch that there is not, or that takes no more; also at the end of the
            transaction.
    """
    if received.request.batch_id is not None:
        project_id, batch_id = received.key.project_id, received.request.batch_id
        await counting.expect_open(session, project_id=project_id, batch_id=batch_id)
    content: dict[str, Any] = {"project_id": received.key.project_id, "sha256": received.sha256}
    policy = received.request.duplicates
    if policy is not None:
        await repository.lock_content(session, **content)
    if policy == "new_version":
        return await _replace_or_add(session, quotas, received, actor_id=actor_id)
    if policy == "link":
        # Asked again: while the first one waited for a deletion, a link may have come to stand for what was deleted.
        most = {**content, "most_links": MOST_LINKS}
        twin = await repository.linkable(session, **most) or await repository.linkable(session, **most)
        if twin is not None:
            return await _link(session, quotas, received, twin, actor_id=actor_id)
    same = await repository.first_with_content(session, **content)
    if same is not None and policy == "reject":
        raise DuplicateDocument(same)
    return Stored(await _create(session, quotas, received, duplicate_of=same, actor_id=actor_id))


async def _replace_or_add(
    session: AsyncSession, quotas: Quotas, received: Received, *, actor_id: uuid.UUID | None
) -> Stored:
    project_id, request = received.key.project_id, received.request
    twin = await repository.holder_of(session, project_id=project_id, sha256=received.sha256)
    if twin is not None:
        return Stored(twin, bytes_used=False, changed=False)
    assert request.name is not None  # noqa: S101  # received
    await repository.lock_name(session, project_id=project_id, name=request.name)
    document = await repository.newest_named(session, project_id=project_id, name=request.name)
    if document is None:
        return Stored(await _create(session, quotas, received, duplicate_of=None, actor_id=actor_id))
    content = version_of(received, actor_id)
    await add_version(session, quotas, document, content, metadata=request.metadata, batch_id=request.batch_id)
    return Stored(document)


async def _create(
    session: AsyncSession,
    quotas: Quotas,
    received: Received,
    *,
    duplicate_of: uuid.UUID | None,
    actor_id: uuid.UUID | None,
    **facts: Any,
) -> Document:
    document = Document(
        id=received.key.document_id,
        project_id=received.key.project_id,
        name=received.request.name,
        custom_metadata=received.request.metadata or {},
        declared_type=received.request.content_type,
        size=received.size,
        sha256=received.sha256,
        version=1,
        uploaded_by=actor_id,
        batch_id=received.request.batch_id,
        revision=1,
        duplicate_of=duplicate_of,
        job_sequence=0,
        **{"status": "queued", "linked": False, **facts},
    )
    session.add(document)
    counting.join(session, document.batch_id, "queued")
    await session.flush()
    _announce(session, document, actor_id, lane="interactive" if document.batch_id is None else "bulk")
    await session.flush()
    await tenants.take(session, quotas, documents=1, size=received.size)
    return document


async def _link(
    session: AsyncSession, quotas: Quotas, received: Received, twin: Document, *, actor_id: uuid.UUID | None
) -> Stored:
    linked = {"linked": True, "blob_id": twin.blob}
    document = await _create(session, quotas, received, duplicate_of=twin.id, actor_id=actor_id, **linked)
    if twin.status == "indexed" and twin.job_id is not None:
        statuses.enter(session, document, "indexed")
        document.live_version = document.version
        document.job_id, document.job_sequence = twin.job_id, twin.job_sequence
        for name in ("chunk_count", "title", "partly_read", "indexed_at"):
            setattr(document, name, getattr(twin, name))
        document.revision += 1
        event = DocumentIndexed(
            project_id=document.project_id,
            document_id=document.id,
            version=document.version,
            job_id=twin.job_id,
            chunk_count=twin.chunk_count or 0,
            title=twin.title,
            partly_read=tuple(twin.partly_read) if twin.partly_read else None,
        )
        outbox.publish(session, event, sequence=document.revision)
    return Stored(document, bytes_used=False)


def version_of(received: Received, actor_id: uuid.UUID | None) -> DocumentVersion:
    """The received content, as the next version of some document."""
    return DocumentVersion(
        declared_type=received.request.content_type,
        size=received.size,
        sha256=received.sha256,
        blob_id=received.key.document_id,
        uploaded_by=actor_id,
    )


async def add_version(
    session: AsyncSession,
    quotas: Quotas,
    document: Document,
    content: DocumentVersion,
    *,
    metadata: dict[str, Any] | None = None,
    batch_id: uuid.UUID | None = None,
) -> None:
    """Make `content` the newest version of a locked document. Search finds the live one until this one is indexed.

    Raises:
        QuotaExceeded, TooManyVersions: there is no room for it.
    """
    if document.version >= MOST_VERSIONS:
        raise TooManyVersions
    actor_id = content.uploaded_by
    if metadata is not None and metadata != document.custom_metadata:
        document.custom_metadata = metadata
        announce_update(session, document, actor_id)
    await release_links(session, document, actor_id)
    session.add(document.newest_version)
    if document.linked:
        _forget_index(document)
    document.version += 1
    document.declared_type, document.size, document.sha256 = content.declared_type, content.size, content.sha256
    document.blob_id, document.uploaded_by, document.uploaded_at = content.blob_id, actor_id, datetime.now(UTC)
    document.linked, document.duplicate_of = False, None
    if batch_id is None:
        statuses.enter(session, document, "queued")
    else:
        counting.move(session, document.batch_id, document.status, None)
        counting.join(session, batch_id, "queued")
        document.batch_id, document.status = batch_id, "queued"
    document.error_code = document.error_reason = None
    document.revision += 1
    _announce(session, document, actor_id, lane="interactive" if batch_id is None else "bulk")
    await session.flush()
    await tenants.take(session, quotas, documents=1, size=content.size)


async def release_links(session: AsyncSession, document: Document, actor_id: uuid.UUID | None) -> None:
    """Let documents linked to this one, which is locked, do without it: the oldest is indexed, the others are linked
    to that one. Their bytes stay, since they refer to them."""
    if document.linked:
        return
    heir: Document | None = None
    for link in await repository.links_of(session, document.id):
        link.linked, link.duplicate_of = heir is not None, None if heir is None else heir.id
        statuses.enter(session, link, "queued")
        link.error_code = link.error_reason = None
        _forget_index(link)
        link.revision += 1
        _announce(session, link, actor_id)
        heir = heir or link


def _forget_index(link: Document) -> None:
    """What was known of the document it was linked to."""
    link.job_id, link.job_sequence = None, 0
    link.live_version = link.indexed_at = link.chunk_count = link.title = link.partly_read = None


def announce_update(session: AsyncSession, document: Document, actor_id: uuid.UUID | None) -> None:
    document.revision += 1
    event = DocumentUpdated(
        project_id=document.project_id,
        document_id=document.id,
        version=document.version,
        actor_id=actor_id,
        name=document.name,
        metadata=document.custom_metadata,
        linked_to=document.duplicate_of if document.linked else None,
    )
    outbox.publish(session, event, sequence=document.revision)


def _announce(
    session: AsyncSession, document: Document, actor_id: uuid.UUID | None, *, lane: Lane = "interactive"
) -> None:
    event = DocumentUploaded(
        project_id=document.project_id,
        document_id=document.id,
        version=document.version,
        actor_id=actor_id,
        name=document.name,
        content_type=document.content_type,
        size=document.size,
        sha256=document.sha256,
        metadata=document.custom_metadata,
        lane=lane,
        created_at=document.created_at,
        linked_to=document.duplicate_of if document.linked else None,
    )
    outbox.publish(session, event, sequence=document.revision)
