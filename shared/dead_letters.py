"""Quarantine for stream entries that cannot be handled: acknowledged only once their evidence is stored.

An entry arrives here at once when it cannot be decoded, and after `MAX_DELIVERIES` deliveries when its handler keeps
failing. Rows belong to the operator, not to a tenant: an entry that cannot be decoded has none. System access only.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import LargeBinary, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from shared.db import Identified, Model
from shared.tenancy import Database

MAX_DELIVERIES = 5


class DeadLetter(Identified, Model):
    """One quarantined entry for one handler, with everything needed to explain it and to try it again."""

    __tablename__ = "dead_letters"
    __table_args__ = (UniqueConstraint("stream", "entry_id", "handler"),)

    stream: Mapped[str]
    entry_id: Mapped[str]
    consumer_group: Mapped[str]
    handler: Mapped[str]
    reason: Mapped[str]
    attempts: Mapped[int]
    tenant_id: Mapped[uuid.UUID | None]
    event_id: Mapped[uuid.UUID | None]
    event_type: Mapped[str | None]
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    redriven_at: Mapped[datetime | None]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why an entry is quarantined. `handler` is `decode` when it never reached one."""

    stream: str
    entry_id: str
    consumer_group: str
    handler: str
    reason: str
    attempts: int
    payload: bytes
    tenant_id: uuid.UUID | None = None
    event_id: uuid.UUID | None = None
    event_type: str | None = None


async def quarantine(database: Database, evidence: Evidence) -> None:
    """Store the evidence; a second call for the same entry and handler changes nothing."""
    async with database.system() as session:
        await session.execute(
            insert(DeadLetter)
            .values(
                stream=evidence.stream,
                entry_id=evidence.entry_id,
                consumer_group=evidence.consumer_group,
                handler=evidence.handler,
                reason=evidence.reason[:2000],
                attempts=evidence.attempts,
                payload=evidence.payload,
                tenant_id=evidence.tenant_id,
                event_id=evidence.event_id,
                event_type=evidence.event_type,
            )
            .on_conflict_do_nothing()
        )
