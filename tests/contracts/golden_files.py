"""Golden files: what each version of an event looked like when it was first sent, or last grew by an optional field."""

from pathlib import Path
from typing import Any

import orjson

from infra.contracts.catalogue import GOLDEN
from shared.events.envelope import Envelope, Event
from shared.outbox import OutboxEvent, entry_of


def golden(name: str, folder: Path = GOLDEN) -> dict[str, Any]:
    content: dict[str, Any] = orjson.loads((folder / f"{name}.json").read_bytes())
    return content


def sent_again(kind: type[Event], entry: dict[str, Any]) -> dict[str, Any]:
    """What today's outbox and relay write for what today's consumer reads in `entry`."""
    envelope = Envelope.from_json(orjson.dumps(entry))
    event = kind.model_validate(envelope.data)
    row = OutboxEvent(
        id=envelope.id,
        tenant_id=envelope.tenantid,
        type=envelope.type,
        subject=event.subject,
        sequence=envelope.sequence,
        time=envelope.time,
        traceparent=envelope.traceparent,
        correlation_id=envelope.correlationid,
        causation_id=envelope.causationid,
        data=event.model_dump(mode="json"),
    )
    written: dict[str, Any] = orjson.loads(entry_of(row))
    return written
