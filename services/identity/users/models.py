"""People and the accounts elsewhere by which they sign in. Installation-wide: a user may belong to several tenants."""

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, Index, PrimaryKeyConstraint, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.orm_base import Base
from shared.db import Identified, Timestamped


class User(Identified, Timestamped, Base):
    """`email` is in lower case. Only a verified address identifies anybody, and only one user can have it verified."""

    __tablename__ = "users"
    __table_args__ = (Index("uq_users_verified_email", "email", unique=True, postgresql_where=text("email_verified")),)

    email: Mapped[str | None] = mapped_column(Text)
    email_verified: Mapped[bool]
    name: Mapped[str] = mapped_column(Text)


class LinkedAccount(Base):
    """An account at an OpenID Connect issuer; `subject` is unique and never reassigned there."""

    __tablename__ = "linked_accounts"
    __table_args__ = (
        PrimaryKeyConstraint("issuer", "subject"),
        Index("ix_linked_accounts_user_id", "user_id"),
    )

    issuer: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
