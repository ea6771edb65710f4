"""Dead letters made to order, as `shared.delivery` would leave them."""

import uuid
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.dead_letters import DeadLetter, Evidence, quarantine
from shared.events.envelope import Envelope, Event, producer_of
from shared.tenancy import Database

CANARY = "canary-of-a-tenant"


def envelope_of(event: Event, tenant_id: uuid.UUID, *, sequence: int = 1) -> Envelope:
    return Envelope(
        id=uuid.uuid4(),
        source=f"/quarry/{producer_of(event.type)}",
        type=event.type,
        subject=event.subject,
        time=datetime.now(UTC),
        tenantid=tenant_id,
        sequence=sequence,
        data={**event.model_dump(mode="json"), "note": CANARY},
    )


async def stored(
    database: Database,
    envelope: Envelope | None = None,
    *,
    payload: bytes = b"\xff not json",
    handler: str = "decode",
    reason: str = f"ValueError: cannot handle {CANARY}",
) -> uuid.UUID:
    """A dead letter of an envelope, or of bytes that are none; gives its id."""
    entry_id = f"{uuid.uuid4().int % 10**15}-0"
    async with database.system() as session:
        before = set(await session.scalars(select(DeadLetter.id)))
    evidence = Evidence(
        stream="events.notifier",
        entry_id=entry_id,
        consumer_group="notifier",
        handler=handler,
        reason=reason,
        attempts=5 if envelope else 1,
        payload=envelope.to_json() if envelope else payload,
        tenant_id=envelope.tenantid if envelope else None,
        event_id=envelope.id if envelope else None,
        event_type=envelope.type if envelope else None,
    )
    await quarantine(database, evidence)
    async with database.system() as session:
        (letter_id,) = set(await session.scalars(select(DeadLetter.id))) - before
    return letter_id


async def letter_of(database: Database, letter_id: uuid.UUID) -> DeadLetter:
    async with database.system() as session:
        return await existing(session, letter_id)


async def existing(session: AsyncSession, letter_id: uuid.UUID) -> DeadLetter:
    letter = await session.get(DeadLetter, letter_id)
    assert letter is not None
    return letter
