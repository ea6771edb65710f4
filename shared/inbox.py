"""Idempotent inbox: the effect of an event is applied once per handler, however often the event arrives.

`first_time` inserts `(event id, handler)` in the handler's own transaction; a conflict means the effect is already
committed, so the delivery is acknowledged without doing anything. Rows are kept 72 hours, longer than any relay can
publish an event again (24 hours).
"""

import uuid
from datetime import datetime

from sqlalchemy import PrimaryKeyConstraint, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from shared.db import Model
from shared.tenancy import TenantOwned


class InboxEntry(TenantOwned, Model):
    """An event one handler has applied."""

    __tablename__ = "inbox"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "event_id", "handler"),)

    event_id: Mapped[uuid.UUID]
    handler: Mapped[str]
    processed_at: Mapped[datetime] = mapped_column(server_default=text("now()"), index=True)


async def first_time(session: AsyncSession, event_id: uuid.UUID, handler: str) -> bool:
    """Claim the event for this handler; False when its effect is already committed."""
    claimed = await session.scalar(
        insert(InboxEntry)
        .values(event_id=event_id, handler=handler)
        .on_conflict_do_nothing()
        .returning(InboxEntry.event_id)
    )
    return claimed is not None
