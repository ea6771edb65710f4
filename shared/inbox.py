"""Idempotent inbox: the effect of an event is applied once per handler, however often the event arrives.

`claim` inserts `(event id, handler)` in the handler's own transaction; a conflict means the effect is already
committed, so the delivery is acknowledged without doing anything. Rows are kept 72 hours, longer than any relay can
publish an event again (24 hours).
"""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from sqlalchemy import PrimaryKeyConstraint, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from shared.db import Model
from shared.tenancy import INSERTS_ONLY, TenantOwned

Effect = tuple[uuid.UUID, str]
"""What is applied once: an event's id and the name of a handler."""


class InboxEntry(TenantOwned, Model):
    """An event one handler has applied."""

    __tablename__ = "inbox"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "event_id", "handler"),)

    event_id: Mapped[uuid.UUID]
    handler: Mapped[str]
    processed_at: Mapped[datetime] = mapped_column(server_default=text("now()"), index=True)


# One statement however many rows, so that it is prepared once: a VALUES list is compiled again for every length.
_CLAIM: Final = text(
    "INSERT INTO inbox (event_id, handler) "
    "SELECT * FROM unnest(CAST(:events AS uuid[]), CAST(:handlers AS text[])) "
    "ON CONFLICT DO NOTHING RETURNING event_id, handler"
).execution_options(tenant_guard=INSERTS_ONLY)


async def claim(session: AsyncSession, effects: Iterable[Effect]) -> set[Effect]:
    """Those of `effects` that this transaction is the first to apply."""
    # In one order everywhere: two readers of the same events then wait for each other instead of deadlocking.
    wanted = sorted(set(effects))
    if not wanted:
        return set()
    claimed = await session.execute(
        _CLAIM, {"events": [event_id for event_id, _ in wanted], "handlers": [handler for _, handler in wanted]}
    )
    return {(row.event_id, row.handler) for row in claimed}
