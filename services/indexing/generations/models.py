"""Tables of generations: what a project's points were made with, and which of its documents a generation may lack."""

import uuid
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import BigInteger, CheckConstraint, Index, PrimaryKeyConstraint, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from services.indexing.generations.identity import Current, Identity
from services.indexing.orm_base import Base
from shared.tenancy import TenantOwned

State = Literal["building", "active", "kept", "dropping"]
Phase = Literal["documents", "points"]
Requested = Literal["outdated", "always", "rollback"]

STORED: Final[tuple[State, ...]] = ("building", "active", "kept")
"""Points of these are complete or on their way to it."""


class Generation(TenantOwned, Base):
    """A project's points under one `number`, all made with one embedder and one analyzer.

    `building -> active -> kept -> dropping`, and then the row is removed; `kept -> building` goes back to an older
    generation, and `building -> dropping` gives up. A project has one active generation and at most one being built.

    highest: of the active one, the highest number that the project ever had. None is given twice: points written late
        by a process that was frozen are never taken for another generation's.
    due_at: when the next step is due: of building, of comparing, of dropping.
    phase, position: how far the points have been compared with the documents, in the order of ids; `differed` of them
        were not equal so far.
    done, total: chunks that have points, and all chunks, as far as known.
    error: why the last step failed.
    requested: an operator has asked for a new generation, or (`rollback`) for the one before; `outdated`: if this one
        was not made with what is used now.
    request_key: the idempotency key of the request that began it.
    """

    __tablename__ = "generations"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "project_id", "number"),
        CheckConstraint("state IN ('building', 'active', 'kept', 'dropping')", name="state"),
        CheckConstraint("phase IN ('documents', 'points')", name="phase"),
        CheckConstraint("requested IN ('outdated', 'always', 'rollback')", name="requested"),
        Index(
            "uq_generations_active",
            "tenant_id",
            "project_id",
            unique=True,
            postgresql_where=text("state = 'active'"),
        ),
        Index(
            "uq_generations_building",
            "tenant_id",
            "project_id",
            unique=True,
            postgresql_where=text("state = 'building'"),
        ),
        Index("ix_generations_tenant_id_due_at", "tenant_id", "due_at"),
    )

    project_id: Mapped[uuid.UUID]
    number: Mapped[int]
    highest: Mapped[int]
    embedder: Mapped[str]
    dimensions: Mapped[int]
    analyzer: Mapped[str]
    state: Mapped[State] = mapped_column(Text)
    phase: Mapped[Phase] = mapped_column(Text, server_default=text("'documents'"))
    position: Mapped[uuid.UUID | None]
    differed: Mapped[int] = mapped_column(server_default=text("0"))
    done: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    total: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[str | None]
    requested: Mapped[Requested | None] = mapped_column(Text)
    request_key: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    due_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    activated_at: Mapped[datetime | None]
    kept_until: Mapped[datetime | None]
    checked_at: Mapped[datetime | None]

    @property
    def current(self) -> Current:
        """Its number and what it is made with."""
        return Current(self.number, Identity(self.embedder, self.dimensions, self.analyzer))


class GenerationDocument(TenantOwned, Base):
    """A document whose live version may lack points in a generation; removed once it has them.

    Of `version`, the chunks before `next_chunk` have points. A further reason gives it a new `revision`, and it is
    removed only if its revision was the one that was worked on.
    """

    __tablename__ = "generation_documents"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "project_id", "number", "document_id"),
        Index("ix_generation_documents_tenant_id_due_at", "tenant_id", "due_at"),
    )

    project_id: Mapped[uuid.UUID]
    number: Mapped[int]
    document_id: Mapped[uuid.UUID]
    revision: Mapped[uuid.UUID] = mapped_column(server_default=text("uuidv7()"))
    version: Mapped[int | None]
    next_chunk: Mapped[int] = mapped_column(server_default=text("0"))
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    due_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
