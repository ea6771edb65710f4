"""Tables of documents and of the blobs still to be removed."""

import uuid
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ARRAY, BigInteger, ForeignKeyConstraint, Index, Integer, PrimaryKeyConstraint, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from services.projects.blobs.store import BlobKey
from services.projects.orm_base import Base
from services.projects.versions.models import DocumentVersion
from shared.db import Timestamped
from shared.tenancy import TenantOwned

DocumentStatus = Literal["queued", "indexing", "indexed", "failed", "cancelled"]

_VISIBLE = text("deleted_at IS NULL")


class Document(TenantOwned, Timestamped, Base):
    """A document: its newest version, what became of it, and what is known of the live version, which search finds.

    `title` is the one it gives itself; `partly_read` says, as codes, why search does not find all that it shows. A
    `linked` document has the content of `duplicate_of`, and search finds it there: it shares that document's blob, has
    no indexing job of its own, and its status follows that document's.

    `revision` counts every change and is the sequence of the document's events. `job_id` and `job_sequence` are the
    newest that indexing has reported: older events are dropped. A deleted document stays as a tombstone without name
    and metadata.
    """

    __tablename__ = "documents"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "id"),
        ForeignKeyConstraint(["tenant_id", "project_id"], ["projects.tenant_id", "projects.id"]),
        ForeignKeyConstraint(["tenant_id", "batch_id"], ["batches.tenant_id", "batches.id"]),
        ForeignKeyConstraint(["tenant_id", "duplicate_of"], ["documents.tenant_id", "documents.id"]),
        Index(
            "ix_documents_newest",
            "tenant_id",
            "project_id",
            text("created_at DESC"),
            text("id DESC"),
            postgresql_where=_VISIBLE,
        ),
        Index("ix_documents_content", "tenant_id", "project_id", "sha256", postgresql_where=_VISIBLE),
        Index("ix_documents_duplicate_of", "tenant_id", "duplicate_of"),
        Index("ix_documents_blob", "tenant_id", "blob_id", postgresql_where=text("blob_id IS NOT NULL")),
        Index(
            "ix_documents_batch",
            "tenant_id",
            "batch_id",
            text("created_at DESC"),
            text("id DESC"),
            postgresql_where=text("batch_id IS NOT NULL"),
        ),
        Index("ix_documents_name", "tenant_id", "project_id", "name", postgresql_where=_VISIBLE),
    )

    id: Mapped[uuid.UUID] = mapped_column(server_default=text("uuidv7()"))
    project_id: Mapped[uuid.UUID]
    name: Mapped[str] = mapped_column(Text)
    title: Mapped[str | None] = mapped_column(Text)
    # `metadata` is SQLAlchemy's own attribute of a mapped class.
    custom_metadata: Mapped[dict[str, Any]] = mapped_column("metadata")
    # As uploaded, with the charset of a text.
    declared_type: Mapped[str] = mapped_column("content_type", Text)
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Integer)
    uploaded_by: Mapped[uuid.UUID | None]
    # Of a version that replaced another.
    uploaded_at: Mapped[datetime | None]
    # Of bytes that came with another document, or after this one.
    blob_id: Mapped[uuid.UUID | None]
    # That of its last upload which named one.
    batch_id: Mapped[uuid.UUID | None]
    live_version: Mapped[int | None] = mapped_column(Integer)
    revision: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[DocumentStatus] = mapped_column(Text)
    duplicate_of: Mapped[uuid.UUID | None]
    linked: Mapped[bool] = mapped_column(server_default=text("false"))
    job_id: Mapped[uuid.UUID | None]
    job_sequence: Mapped[int] = mapped_column(BigInteger)
    error_code: Mapped[str | None] = mapped_column(Text)
    error_reason: Mapped[str | None] = mapped_column(Text)
    chunk_count: Mapped[int | None] = mapped_column(Integer)
    partly_read: Mapped[list[str] | None] = mapped_column(JSONB(none_as_null=True))
    indexed_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]

    @property
    def content_type(self) -> str:
        """The declared type without parameters, which is what clients see."""
        return self.declared_type.partition(";")[0]

    @property
    def blob(self) -> uuid.UUID:
        """The id that the newest version's blob is named after."""
        return self.blob_id or self.id

    @property
    def searched_version(self) -> int | None:
        """The version that search finds. Documents that were indexed before versions have it in no column."""
        return self.live_version or (1 if self.indexed_at is not None else None)

    @property
    def newest_version(self) -> DocumentVersion:
        return DocumentVersion(
            tenant_id=self.tenant_id,
            project_id=self.project_id,
            document_id=self.id,
            number=self.version,
            declared_type=self.declared_type,
            size=self.size,
            sha256=self.sha256,
            blob_id=self.blob,
            uploaded_by=self.uploaded_by,
            created_at=self.uploaded_at or self.created_at,
        )


class BlobDeletion(TenantOwned, Base):
    """A blob to be removed unless a version still refers to it, written with the deletion of a document that did;
    deleted once the blob is gone from the disk, or found to be needed. `document_id` is the id the blob is named
    after, `size` its bytes, and `deleted` the documents whose deletion waits for this, in the order of deletion."""

    __tablename__ = "blob_deletions"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "document_id", "version"),
        Index("ix_blob_deletions_next_attempt_at", "next_attempt_at"),
    )

    project_id: Mapped[uuid.UUID]
    document_id: Mapped[uuid.UUID]
    version: Mapped[int] = mapped_column(Integer)
    size: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    deleted: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(Uuid), server_default=text("'{}'"))
    attempts: Mapped[int] = mapped_column(Integer)
    due_at: Mapped[datetime] = mapped_column("next_attempt_at", server_default=text("now()"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

    @property
    def blob_key(self) -> BlobKey:
        return BlobKey(self.tenant_id, self.project_id, self.document_id, self.version)
