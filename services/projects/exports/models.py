"""Table of exports."""

import uuid
from datetime import datetime
from typing import Literal

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, Integer, PrimaryKeyConstraint, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from services.projects.blobs.store import BlobKey
from services.projects.orm_base import Base
from shared.tenancy import TenantOwned

ExportStatus = Literal["queued", "running", "ready", "failed", "deleted"]


class Export(TenantOwned, Base):
    """An archive of one project, or of all projects of the tenant when `project_id` is null.

    While it is `queued` or `running`, `due_at` is when an attempt may begin or its claim ends; then it is when the
    archive and the row are removed. One that is `deleted` is gone for clients. Each attempt writes a blob of its own,
    named after the export and the number of the attempt. `revision` counts what clients can see change.
    """

    __tablename__ = "exports"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "id"),
        ForeignKeyConstraint(["tenant_id", "project_id"], ["projects.tenant_id", "projects.id"]),
        Index("ix_exports_due_at", "due_at"),
        Index("ix_exports_project", "tenant_id", "project_id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(server_default=text("uuidv7()"))
    project_id: Mapped[uuid.UUID | None]
    requested_by: Mapped[uuid.UUID | None]
    status: Mapped[ExportStatus] = mapped_column(Text, default="queued")
    revision: Mapped[int] = mapped_column(BigInteger, default=1)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    documents_total: Mapped[int] = mapped_column(BigInteger, default=0)
    documents_done: Mapped[int] = mapped_column(BigInteger, default=0)
    documents_skipped: Mapped[int] = mapped_column(BigInteger, default=0)
    bytes_total: Mapped[int] = mapped_column(BigInteger, default=0)
    bytes_done: Mapped[int] = mapped_column(BigInteger, default=0)
    size: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    due_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

    def blob_key(self, attempt: int) -> BlobKey:
        return BlobKey(self.tenant_id, self.project_id or self.tenant_id, self.id, attempt)
