"""Browser sessions. Only a hash of the cookie's value is kept."""

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.orm_base import Base
from shared.db import Identified


class BrowserSession(Identified, Base):
    """Valid until `expires_at`, `revoked_at`, or too long after `last_seen_at`, whichever comes first.

    `active_tenant_id` is the user's choice; whether they still belong to it is looked up each time.
    """

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ix_sessions_secret_hash", "secret_hash", unique=True),
        Index("ix_sessions_user_id", "user_id"),
    )

    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    secret_hash: Mapped[bytes]
    active_tenant_id: Mapped[uuid.UUID | None]
    revision: Mapped[int] = mapped_column(default=1)
    user_agent: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    last_seen_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
