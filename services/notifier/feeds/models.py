"""Feeds and their events."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, PrimaryKeyConstraint, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from services.notifier.orm_base import Base
from shared.tenancy import TenantOwned

DOCUMENT_DELETED = "document.deleted"
DOCUMENT_PURGED = "document.purged"


class Feed(TenantOwned, Base):
    """Counters of one feed. `feed_id` is a project, or the tenant itself for the feed of all its projects.

    Events up to `last_sequence` exist or existed; those before `first_kept_sequence` may be gone.
    """

    __tablename__ = "feeds"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "feed_id"),)

    feed_id: Mapped[uuid.UUID]
    last_sequence: Mapped[int] = mapped_column(BigInteger)
    first_kept_sequence: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))


class FeedEvent(TenantOwned, Base):
    """One durable event: number `sequence` of its project's feed and `tenant_sequence` of its tenant's.

    `revision` is the version of the thing the event is about (`subject_id`), as its owner counts it.
    """

    __tablename__ = "feed_events"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "project_id", "sequence"),
        UniqueConstraint("tenant_id", "tenant_sequence"),
        UniqueConstraint("tenant_id", "event_id"),
        Index("ix_feed_events_subject", "tenant_id", "project_id", "subject_id", "revision"),
    )

    project_id: Mapped[uuid.UUID]
    sequence: Mapped[int] = mapped_column(BigInteger)
    tenant_sequence: Mapped[int] = mapped_column(BigInteger)
    event_id: Mapped[uuid.UUID]
    type: Mapped[str]
    time: Mapped[datetime]
    subject_id: Mapped[uuid.UUID]
    revision: Mapped[int] = mapped_column(BigInteger)
    data: Mapped[dict[str, Any]]
    traceparent: Mapped[str | None]
    appended_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class DeletedTenant(TenantOwned, Base):
    """The tombstone of a tenant: nothing is appended any more. `due_at` is null once all of its rows are removed."""

    __tablename__ = "deleted_tenants"
    __table_args__ = (PrimaryKeyConstraint("tenant_id"), Index("ix_deleted_tenants_due_at", "due_at"))

    due_at: Mapped[datetime | None]


class DocumentPurge(TenantOwned, Base):
    """What is known of a deleted document's end: of how many `entries` its deletion removed what people wrote, whether
    indexing has told that it holds nothing more, and whether that was told on."""

    __tablename__ = "document_purges"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "document_id"),)

    document_id: Mapped[uuid.UUID]
    entries: Mapped[int | None]
    index_purged: Mapped[bool] = mapped_column(server_default=text("false"))
    told: Mapped[bool] = mapped_column(server_default=text("false"))
