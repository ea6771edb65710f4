"""What identity has announced, read from its outbox."""

from dataclasses import dataclass
from typing import Any

import orjson

from infra.local.stack import Stack
from tests.services.identity.admin import as_admin


@dataclass(frozen=True)
class Announced:
    tenant_id: str
    sequence: int
    data: dict[str, Any]
    correlation_id: str | None


async def published(stack: Stack, event_type: str, subject: str) -> list[Announced]:
    """The events of one aggregate, in the order they were written."""
    rows = await as_admin(
        stack,
        "SELECT tenant_id, sequence, data, correlation_id FROM identity.outbox WHERE type = $1 AND subject = $2 "
        "ORDER BY position",
        event_type,
        subject,
    )
    return [
        Announced(str(row["tenant_id"]), row["sequence"], orjson.loads(row["data"]), row["correlation_id"])
        for row in rows
    ]
