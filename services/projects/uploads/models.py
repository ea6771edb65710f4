"""Tables of resumable uploads, and of when each expires."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column

from services.projects.blobs.store import BlobKey
from services.projects.documents.upload import DuplicatesPolicy
from services.projects.orm_base import Base
from shared.tenancy import TenantOwned


class Upload(TenantOwned, Base):
    """An upload that is sent in pieces: its first `received` bytes are durable, and `state` is what its blob goes on
    from. A document that is made of it has its id.

    `length` is null as long as the client has not said it. `writer` is the fencing token of who receives bytes: who
    takes the upload over changes it, and nothing is recorded for an old one. Once `document_id` is set the upload is
    over, and its row stays to be asked about until it expires.
    """

    __tablename__ = "uploads"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "id"),
        ForeignKeyConstraint(["tenant_id", "project_id"], ["projects.tenant_id", "projects.id"]),
        Index("ix_uploads_project_id", "tenant_id", "project_id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(server_default=text("uuidv7()"))
    project_id: Mapped[uuid.UUID]
    name: Mapped[str] = mapped_column(Text)
    declared_type: Mapped[str] = mapped_column("content_type", Text)
    custom_metadata: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSONB(none_as_null=True))
    duplicates: Mapped[DuplicatesPolicy | None] = mapped_column(Text)
    # The header `Upload-Metadata`, which is repeated to clients.
    sent_metadata: Mapped[str] = mapped_column(Text)
    length: Mapped[int | None] = mapped_column(BigInteger)
    received: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[bytes] = mapped_column(LargeBinary)
    writer: Mapped[uuid.UUID | None]
    document_id: Mapped[uuid.UUID | None]
    created_by: Mapped[uuid.UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime]

    @property
    def blob_key(self) -> BlobKey:
        return BlobKey.of_upload(self.tenant_id, self.project_id, self.id)

    @property
    def complete(self) -> bool:
        """All bytes are there."""
        return self.received == self.length

    @property
    def unrecorded(self) -> bool:
        """Complete, but no document yet: its process died, or what it asked was unavailable."""
        return self.complete and self.document_id is None

    @hybrid_property
    def reserved(self) -> int:
        """Bytes that count against the tenant's quota until it is over."""
        return self.received if self.length is None else self.length

    @reserved.inplace.expression
    @classmethod
    def _reserved(cls) -> ColumnElement[int]:
        return func.coalesce(cls.length, cls.received)


class UploadExpiry(TenantOwned, Base):
    """When an upload, finished or not, is removed."""

    __tablename__ = "upload_expiries"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "upload_id"),
        Index("ix_upload_expiries_due_at", "due_at"),
    )

    upload_id: Mapped[uuid.UUID]
    due_at: Mapped[datetime]
