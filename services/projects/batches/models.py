"""Table of batches."""

import uuid
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, Integer, PrimaryKeyConstraint, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from services.projects.orm_base import Base
from shared.tenancy import TenantOwned

ItemState = Literal["queued", "indexing", "indexed", "failed", "cancelled", "deleted"]
ITEM_STATES: Final[tuple[ItemState, ...]] = ("queued", "indexing", "indexed", "failed", "cancelled", "deleted")


class Batch(TenantOwned, Base):
    """Documents that were uploaded together, counted by state; each change of a document's status changes the counts.

    Open until it is closed, which keeps further documents out. It is completed once, when it is closed and none of its
    documents waits or is being indexed; documents that are retried later change the counts and nothing else.
    """

    __tablename__ = "batches"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "id"),
        ForeignKeyConstraint(["tenant_id", "project_id"], ["projects.tenant_id", "projects.id"]),
        Index("ix_batches_newest", "tenant_id", "project_id", text("created_at DESC"), text("id DESC")),
        Index("ix_batches_open", "tenant_id", postgresql_where=text("closed_at IS NULL")),
    )

    id: Mapped[uuid.UUID] = mapped_column(server_default=text("uuidv7()"))
    project_id: Mapped[uuid.UUID]
    name: Mapped[str] = mapped_column(Text)
    expected: Mapped[int | None] = mapped_column(Integer)
    created_by: Mapped[uuid.UUID | None]
    revision: Mapped[int] = mapped_column(BigInteger, default=1)
    queued: Mapped[int] = mapped_column(BigInteger, default=0)
    indexing: Mapped[int] = mapped_column(BigInteger, default=0)
    indexed: Mapped[int] = mapped_column(BigInteger, default=0)
    failed: Mapped[int] = mapped_column(BigInteger, default=0)
    cancelled: Mapped[int] = mapped_column(BigInteger, default=0)
    deleted: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    closed_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]

    @property
    def total(self) -> int:
        return sum(getattr(self, state) for state in ITEM_STATES)
