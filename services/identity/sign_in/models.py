"""Sign-ins under way: what was sent to the provider and must come back, kept on the server."""

from datetime import datetime

from sqlalchemy import Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.orm_base import Base


class LoginState(Base):
    """One authorization request. Used once, by the browser that began it, before `expires_at`."""

    __tablename__ = "login_states"
    __table_args__ = (Index("ix_login_states_expires_at", "expires_at"),)

    state_hash: Mapped[bytes] = mapped_column(primary_key=True)
    browser_hash: Mapped[bytes]
    provider: Mapped[str] = mapped_column(Text)
    nonce: Mapped[str] = mapped_column(Text)
    code_verifier: Mapped[str] = mapped_column(Text)
    return_to: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime]
