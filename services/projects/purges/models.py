"""Table of the documents that are being removed from every store, and of what was removed."""

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, ForeignKeyConstraint, Integer, PrimaryKeyConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from services.projects.orm_base import Base
from shared.tenancy import TenantOwned


class DocumentPurge(TenantOwned, Base):
    """The removal of a deleted document: the receipt once `purged_at` is set. It holds ids and counts only.

    `blobs_waiting` are those of its blobs that are still to be looked at, `shared_blobs` those that stayed, or went
    with another document. `indexing` and `notifier` are the counts those services told; null before.
    """

    __tablename__ = "document_purges"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "document_id"),
        ForeignKeyConstraint(["tenant_id", "document_id"], ["documents.tenant_id", "documents.id"]),
    )

    document_id: Mapped[uuid.UUID]
    versions: Mapped[int] = mapped_column(Integer)
    blobs_waiting: Mapped[int] = mapped_column(Integer)
    blobs: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    shared_blobs: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    indexing: Mapped[dict[str, int] | None] = mapped_column(JSONB(none_as_null=True))
    notifier: Mapped[dict[str, int] | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    purged_at: Mapped[datetime | None]
