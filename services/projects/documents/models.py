"""Tables of documents and of the blobs still to be removed."""

import uuid
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, Integer, PrimaryKeyConstraint, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from services.projects.blobs import BlobKey
from services.projects.orm_base import Base
from shared.db import Timestamped
from shared.tenancy import TenantOwned

DocumentStatus = Literal["queued", "indexing", "indexed", "failed", "cancelled"]

_VISIBLE = text("deleted_at IS NULL")


class Document(TenantOwned, Timestamped, Base):
    """A document and what is known of its live version.

    `title` is the one it gives itself; `partly_read` says, as codes, why search does not find all that it shows.

    `revision` counts every change and is the sequence of the document's events. `job_id` and `job_sequence` are the
    newest that indexing has reported: older events are dropped. A deleted document stays as a tombstone without name
    and metadata.
    """

    __tablename__ = "documents"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "id"),
        ForeignKeyConstraint(["tenant_id", "project_id"], ["projects.tenant_id", "projects.id"]),
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
    revision: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[DocumentStatus] = mapped_column(Text)
    duplicate_of: Mapped[uuid.UUID | None]
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
    def blob_key(self) -> BlobKey:
        return BlobKey(self.tenant_id, self.project_id, self.id, self.version)


class BlobDeletion(TenantOwned, Base):
    """A blob to be removed, written with the deletion of its document; deleted once the blob is gone from the disk."""

    __tablename__ = "blob_deletions"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "document_id", "version"),
        Index("ix_blob_deletions_next_attempt_at", "next_attempt_at"),
    )

    project_id: Mapped[uuid.UUID]
    document_id: Mapped[uuid.UUID]
    version: Mapped[int] = mapped_column(Integer)
    attempts: Mapped[int] = mapped_column(Integer)
    due_at: Mapped[datetime] = mapped_column("next_attempt_at", server_default=text("now()"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

    @property
    def blob_key(self) -> BlobKey:
        return BlobKey(self.tenant_id, self.project_id, self.document_id, self.version)
