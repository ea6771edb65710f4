"""Feeds of runs and their events."""

import uuid
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, Index, PrimaryKeyConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from services.notifier.orm_base import Base
from shared.tenancy import TenantOwned

LAST_EVENTS: Final = frozenset({"done", "error"})
"""Types of the events after which nothing follows."""


class RunFeed(TenantOwned, Base):
    """The feed of one run. Its events up to `last_sequence` are here; later ones may be as well, but one before them is
    missing so far. `trimmed`: the events are gone, and none is kept any more. At `due_at` the feed is removed.
    """

    __tablename__ = "run_feeds"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "run_id"), Index("ix_run_feeds_due_at", "due_at"))

    run_id: Mapped[uuid.UUID]
    project_id: Mapped[uuid.UUID]
    last_sequence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    trimmed: Mapped[bool] = mapped_column(server_default=text("false"))
    due_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class RunFeedEvent(TenantOwned, Base):
    """One event, under the number that the run itself gave it."""

    __tablename__ = "run_events"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "run_id", "sequence"),)

    run_id: Mapped[uuid.UUID]
    sequence: Mapped[int] = mapped_column(BigInteger)
    type: Mapped[str]
    time: Mapped[datetime]
    data: Mapped[dict[str, Any]]
    traceparent: Mapped[str | None]
