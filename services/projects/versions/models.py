"""Table of the versions that were replaced."""

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, Integer, PrimaryKeyConstraint, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from services.projects.blobs.store import BlobKey
from services.projects.orm_base import Base
from shared.tenancy import TenantOwned


class DocumentVersion(TenantOwned, Base):
    """One version of a document's content; it never changes.

    Rows are versions that were replaced. The newest one is kept in the document's own row, as an object of this class
    only while it is read (`Document.newest_version`). Several versions may share a blob.
    """

    __tablename__ = "document_versions"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "document_id", "number"),
        ForeignKeyConstraint(["tenant_id", "document_id"], ["documents.tenant_id", "documents.id"]),
        Index("ix_document_versions_blob", "tenant_id", "blob_id"),
    )

    project_id: Mapped[uuid.UUID]
    document_id: Mapped[uuid.UUID]
    number: Mapped[int] = mapped_column(Integer)
    # As uploaded, with the charset of a text.
    declared_type: Mapped[str] = mapped_column("content_type", Text)
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(Text)
    blob_id: Mapped[uuid.UUID]
    uploaded_by: Mapped[uuid.UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

    @property
    def content_type(self) -> str:
        """The declared type without parameters, which is what clients see."""
        return self.declared_type.partition(";")[0]

    @property
    def blob_key(self) -> BlobKey:
        return BlobKey.of_upload(self.tenant_id, self.project_id, self.blob_id)
