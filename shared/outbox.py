"""Transactional outbox, the writing half.

Guarantees: an event is stored in the transaction of the change it reports, or neither is. The relay (`shared.relay`)
publishes it at least once, in the order rows were committed as far as one relay can see it, and keeps published rows
for 24 hours so that what Redis loses can be published again.
Does not guarantee: delivery exactly once (consumers have an inbox), or any order between aggregates.
"""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from shared.db import Identified, Model
from shared.events.envelope import Envelope, Event, producer_of
from shared.telemetry import current_traceparent
from shared.tenancy import TenantOwned, tenant_of


class OutboxEvent(TenantOwned, Identified, Model):
    """One event waiting for the relay, or kept after it. `position` is the order of publishing; `id` the event's id."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_unpublished", "position", postgresql_where=text("published_at IS NULL")),
        Index("ix_outbox_published_at", "published_at"),
    )

    position: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    type: Mapped[str]
    subject: Mapped[str]
    sequence: Mapped[int] = mapped_column(BigInteger)
    time: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
    traceparent: Mapped[str | None]
    correlation_id: Mapped[str | None]
    causation_id: Mapped[str | None]
    data: Mapped[dict[str, Any]]
    published_at: Mapped[datetime | None]
    entry_id: Mapped[str | None]

    def envelope(self) -> Envelope:
        return Envelope(
            id=self.id,
            source=f"/quarry/{producer_of(self.type)}",
            type=self.type,
            subject=self.subject,
            time=self.time,
            tenantid=self.tenant_id,
            sequence=self.sequence,
            traceparent=self.traceparent,
            correlationid=self.correlation_id,
            causationid=self.causation_id,
            data=self.data,
        )


def publish(session: AsyncSession, event: Event, *, sequence: int, tenant_id: uuid.UUID | None = None) -> None:
    """Store `event` with the change it reports; the tenant is the session's.

    Args:
        sequence: version of the aggregate after the change; consumers ignore an event older than what they have.
        tenant_id: in a system session, which is bound to no tenant, the one the event concerns.

    Raises:
        TenantMismatch: the session is bound to no tenant.
    """
    session.add(
        OutboxEvent(
            tenant_id=tenant_id or tenant_of(session),
            type=event.type,
            subject=event.subject,
            sequence=sequence,
            traceparent=current_traceparent(),
            correlation_id=session.info.get("correlation_id"),
            causation_id=_text_or_none(session.info.get("causation_id")),
            data=event.model_dump(mode="json"),
        )
    )
    session.info["outbox_written"] = True


def _text_or_none(value: uuid.UUID | str | None) -> str | None:
    return None if value is None else str(value)
