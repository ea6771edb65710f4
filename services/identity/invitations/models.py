"""Invitations into a tenant. Only a hash of the token is kept."""

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, PrimaryKeyConstraint, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.orm_base import Base
from shared.events.identity import TenantRole
from shared.tenancy import TenantOwned


class Invitation(TenantOwned, Base):
    """Open until accepted, revoked or expired, and while its sender could still send it. `email` is in lower case."""

    __tablename__ = "invitations"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "id"),
        CheckConstraint("role IN ('owner', 'admin', 'member')", name="known_role"),
        ForeignKeyConstraint(["tenant_id", "invited_by_key"], ["api_keys.tenant_id", "api_keys.id"]),
        Index("ix_invitations_tenant_id_invited_by", "tenant_id", "invited_by"),
        Index("ix_invitations_token_hash", "token_hash"),
        Index("ix_invitations_email", "email"),
        Index("ix_invitations_tenant_id_created_at_id", "tenant_id", "created_at", "id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(server_default=text("uuidv7()"))
    email: Mapped[str] = mapped_column(Text)
    role: Mapped[TenantRole] = mapped_column(Text)
    token_hash: Mapped[bytes]
    invited_by: Mapped[uuid.UUID]
    invited_by_key: Mapped[uuid.UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime]
    accepted_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
