"""Transactional outbox, the writing half.

Guarantees: an event is stored in the transaction of the change it reports, or neither is. The relay (`shared.relay`)
publishes it at least once, in the order rows were committed as far as one relay can see it, and keeps published rows
for 24 hours so that what Redis loses can be published again.
Does not guarantee: delivery exactly once (consumers have an inbox), or any order between aggregates.
Fails by: `BacklogFull`, for requests only, while too many events wait for the relay (`shared.backpressure`).
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import BigInteger, Identity, Index, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from shared.db import Identified, Model
from shared.events.envelope import Envelope, Event, source_of
from shared.events.subscriptions import holders_of
from shared.invalidations import recording
from shared.telemetry import current_traceparent
from shared.tenancy import INSERTS_ONLY, TenantMismatch, TenantOwned, backlog_of, before_commit, tenant_of


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


@dataclass(slots=True)
class _Unwritten:
    """A row of the transaction under way; Postgres gives it `id` and `time`. `data` is JSON."""

    tenant_id: uuid.UUID
    type: str
    subject: str
    sequence: int
    traceparent: str | None
    correlation_id: str | None
    causation_id: str | None
    data: str
    id: uuid.UUID | None = None
    time: datetime | None = None


# All at once and past the ORM, which takes four times as long. Rows come back in the order of the arrays.
_INSERT: Final = text(
    "INSERT INTO outbox (tenant_id, type, subject, sequence, traceparent, correlation_id, causation_id, data) "
    "SELECT * FROM unnest(CAST(:tenant_id AS uuid[]), CAST(:type AS text[]), CAST(:subject AS text[]), "
    "CAST(:sequence AS bigint[]), CAST(:traceparent AS text[]), CAST(:correlation_id AS text[]), "
    "CAST(:causation_id AS text[]), CAST(:data AS jsonb[])) RETURNING id, time"
).execution_options(tenant_guard=INSERTS_ONLY)
_GIVEN: Final = ("tenant_id", "type", "subject", "sequence", "traceparent", "correlation_id", "causation_id", "data")


def entry_of(row: Any) -> bytes:
    """The stream entry of an outbox row: its `Envelope` as JSON. `data` may be JSON text already.

    Written by hand, since the relay does nothing else: through the Pydantic model it takes eight times as long.
    """
    attributes = {
        "specversion": "1.0",
        "id": str(row.id),
        "source": source_of(row.type),
        "type": row.type,
        "subject": row.subject,
        "time": row.time,
        "datacontenttype": "application/json",
        "tenantid": str(row.tenant_id),
        "sequence": row.sequence,
        "traceparent": row.traceparent,
        "correlationid": row.correlation_id,
        "causationid": row.causation_id,
        "data": orjson.Fragment(row.data) if isinstance(row.data, str) else row.data,
    }
    present = {name: value for name, value in attributes.items() if value is not None}
    return orjson.dumps(present, option=orjson.OPT_UTC_Z)


def caused_by_request(session: AsyncSession, request_id: str) -> None:
    """Events of this transaction carry the request's id and are refused while too many wait; the response waits until
    every holder of copies knows of them."""
    session.info["correlation_id"] = request_id
    session.info["for_request"] = True


def caused_by_event(session: AsyncSession, envelope: Envelope) -> None:
    """Events of this transaction carry the id of the event they follow from, and of the request that began it all."""
    session.info["correlation_id"] = envelope.correlationid
    session.info["causation_id"] = str(envelope.id)


def publish(session: AsyncSession, event: Event, *, sequence: int, tenant_id: uuid.UUID | None = None) -> None:
    """Store `event` with the change it reports; the tenant is the session's.

    Args:
        sequence: version of the aggregate after the change; consumers ignore an event older than what they have.
        tenant_id: in a system session, which is bound to no tenant, the one the event concerns.

    Raises:
        TenantMismatch: the session is bound to another tenant, or to none and `tenant_id` is not given.
        BacklogFull: a request's event, while too many wait.
    """
    if session.info.get("for_request"):
        backlog_of(session).refuse_when_full()
    row = _Unwritten(
        tenant_id=_tenant(session, tenant_id),
        type=event.type,
        subject=event.subject,
        sequence=sequence,
        traceparent=current_traceparent(),
        correlation_id=session.info.get("correlation_id"),
        causation_id=session.info.get("causation_id"),
        data=event.model_dump_json(),
    )
    if not (rows := session.info.setdefault("outbox", [])):
        before_commit(session, _write)
    rows.append(row)
    session.info["outbox_written"] = True
    if consumers := holders_of(event.type):
        recording.add(session, recording.Pending(row.tenant_id, consumers, lambda: entry_of(row)))


def _tenant(session: AsyncSession, tenant_id: uuid.UUID | None) -> uuid.UUID:
    bound = session.info.get("tenant_id")
    if tenant_id is None:
        return tenant_of(session)
    if bound not in (None, tenant_id):
        raise TenantMismatch("the event belongs to another tenant")
    return tenant_id


async def _write(session: AsyncSession) -> None:
    rows: list[_Unwritten] = session.info.pop("outbox")
    columns = {name: [getattr(row, name) for row in rows] for name in _GIVEN}
    for row, written in zip(rows, await session.execute(_INSERT, columns), strict=True):
        row.id, row.time = written
