"""The job table: the queue, the state machine and the record of every indexing."""

import uuid
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, CheckConstraint, Index, PrimaryKeyConstraint, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from services.indexing.orm_base import Base
from shared.db import Timestamped
from shared.events.indexing import Stage
from shared.events.projects import Lane
from shared.tenancy import TenantOwned

# `queued -> extracting -> chunking -> embedding -> storing -> indexed`; from any but the last also `failed` or
# `cancelled`, from the four in the middle back to `queued` after an error that may pass.
RUNNING: Final[tuple[Stage, ...]] = ("extracting", "chunking", "embedding", "storing")
UNFINISHED: Final[tuple[Stage, ...]] = ("queued", *RUNNING)


class Job(TenantOwned, Timestamped, Base):
    """The indexing of one version of a document; a retry is the same row again.

    revision: number of events published about the job, the `sequence` of the newest.
    fencing_token: grows with each lease; a write under an older one is refused.
    attempts: leases that may have failed because of the document; deferrals: because of something else.
    request_sequence: revision of the document whose cancel or retry request was last applied.
    sha256: hash of the version's bytes; None for a version from before it was kept.
    uploaded_at: when the version was uploaded; None once it has failed, since clients no longer wait for it.
    long_running: large, or found to take long, so that only a long place of a worker may take it.
    chunk_count: known once chunks are kept; a job that has it continues with embedding.
    title, partly_read: what reading the version told, until its document is deleted; `partly_read` as codes.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "id"),
        UniqueConstraint("tenant_id", "document_id", "version"),
        CheckConstraint("lane IN ('interactive', 'bulk')", name="lane"),
        CheckConstraint(
            "state IN ('queued', 'extracting', 'chunking', 'embedding', 'storing', 'indexed', 'failed', 'cancelled')",
            name="state",
        ),
        Index(
            "ix_jobs_waiting",
            "tenant_id",
            "lane",
            "long_running",
            "next_run_at",
            postgresql_where=text("state = 'queued'"),
        ),
        Index(
            "ix_jobs_leased",
            "lease_expires_at",
            postgresql_where=text("state IN ('extracting', 'chunking', 'embedding', 'storing')"),
        ),
        Index("ix_jobs_tenant_id_project_id_created_at_id", "tenant_id", "project_id", "created_at", "id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(server_default=text("uuidv7()"))
    project_id: Mapped[uuid.UUID]
    document_id: Mapped[uuid.UUID]
    version: Mapped[int]
    lane: Mapped[Lane] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    sha256: Mapped[str | None]
    state: Mapped[Stage] = mapped_column(Text, server_default=text("'queued'"))
    revision: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    request_sequence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    long_running: Mapped[bool] = mapped_column(server_default=text("false"))

    fencing_token: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    next_run_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    deferrals: Mapped[int] = mapped_column(server_default=text("0"))

    chunk_count: Mapped[int | None]
    title: Mapped[str | None]
    partly_read: Mapped[list[str] | None] = mapped_column(JSONB(none_as_null=True))
    progress_done: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    progress_total: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    error_code: Mapped[str | None]
    error_reason: Mapped[str | None]
    evidence: Mapped[dict[str, Any] | None]
    traceparent: Mapped[str | None]
    correlation_id: Mapped[str | None]
    uploaded_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
