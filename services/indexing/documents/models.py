"""Tables of what indexing knows about documents and what it produced from them."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Double,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from services.indexing.orm_base import Base
from shared.tenancy import TenantOwned


class Document(TenantOwned, Base):
    """A document as last reported. Search sees only `live_version`; a deleted document stays as a tombstone, so that no
    late event brings it back. `sequence` is the newest revision whose facts are stored here.

    Of the live version: `title` is the one that it gives itself, `language` the one that most of its text is in (ISO
    639-1), `indexed_characters` the length of its chunks with what is searched beside them, `average_length` what they
    were measured against: points that are made again are equal.

    Of a deleted document: what was `removed_`, and since when nothing of it is left (`purged_at`), which is told once.
    """

    __tablename__ = "documents"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "document_id"),
        Index("ix_documents_tenant_id_project_id_document_id", "tenant_id", "project_id", "document_id"),
    )

    document_id: Mapped[uuid.UUID]
    project_id: Mapped[uuid.UUID]
    version: Mapped[int]
    live_version: Mapped[int | None]
    deleted: Mapped[bool] = mapped_column(server_default=text("false"))
    name: Mapped[str]
    title: Mapped[str | None]
    language: Mapped[str | None]
    content_type: Mapped[str]
    attributes: Mapped[dict[str, Any]] = mapped_column("metadata")
    sequence: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
    indexed_chunks: Mapped[int] = mapped_column(server_default=text("0"))
    indexed_characters: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    average_length: Mapped[float | None] = mapped_column(Double)
    removed_points: Mapped[int] = mapped_column(server_default=text("0"))
    removed_chunks: Mapped[int] = mapped_column(server_default=text("0"))
    removed_batches: Mapped[int] = mapped_column(server_default=text("0"))
    purged_at: Mapped[datetime | None]

    @property
    def described(self) -> tuple[str, dict[str, Any]]:
        """What its owner says of it and filters see: its name and its metadata."""
        return self.name, self.attributes


class Chunk(TenantOwned, Base):
    """A passage of one version. Kept from the chunking stage on; found by search once its version is live.

    `location` and `context` as in `pipeline.documents.Chunk`; null in rows that are older than they.
    """

    __tablename__ = "chunks"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "document_id", "version", "chunk_index"),
        ForeignKeyConstraint(["tenant_id", "document_id"], ["documents.tenant_id", "documents.document_id"]),
    )

    project_id: Mapped[uuid.UUID]
    document_id: Mapped[uuid.UUID]
    version: Mapped[int]
    chunk_index: Mapped[int]
    start_offset: Mapped[int]
    end_offset: Mapped[int]
    page: Mapped[int | None]
    text: Mapped[str]
    location: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    context: Mapped[str | None]


class EmbeddedBatch(TenantOwned, Base):
    """Vectors of consecutive chunks of a large document, kept until it is indexed so that no embedding is done twice.

    `vectors` is a row-major matrix of little-endian float32, `count` rows; `model` names the embedder that made it.
    """

    __tablename__ = "embedded_batches"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "document_id", "version", "first_index"),
        ForeignKeyConstraint(["tenant_id", "document_id"], ["documents.tenant_id", "documents.document_id"]),
    )

    document_id: Mapped[uuid.UUID]
    version: Mapped[int]
    first_index: Mapped[int]
    count: Mapped[int]
    model: Mapped[str]
    vectors: Mapped[bytes] = mapped_column(LargeBinary)


class DeletedTenant(TenantOwned, Base):
    """The tombstone of a tenant: nothing of it is indexed any more, however late its events arrive."""

    __tablename__ = "deleted_tenants"
    __table_args__ = (PrimaryKeyConstraint("tenant_id"),)

    deleted_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class VectorChange(TenantOwned, Base):
    """A pending change of the vector store: written with the fact that causes it, removed when the store agrees again.

    Names a document whose points no longer match its row (`describe`: its name or metadata changed too); without a
    document, everything of the tenant is to be removed. A document has one row, whose `id` is the document's (or the
    tenant's): a further change gives it a new `revision`, and it is removed only if its revision was the one applied.
    Points are described in the order of their ids, so far up to `position`.
    """

    __tablename__ = "vector_changes"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "id"),
        Index("ix_vector_changes_due_at", "due_at"),
        Index("ix_vector_changes_tenant_id_due_at", "tenant_id", "due_at"),
    )

    id: Mapped[uuid.UUID] = mapped_column(server_default=text("uuidv7()"))
    document_id: Mapped[uuid.UUID | None]
    describe: Mapped[bool] = mapped_column(server_default=text("false"))
    revision: Mapped[uuid.UUID] = mapped_column(server_default=text("uuidv7()"))
    position: Mapped[uuid.UUID | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    due_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
