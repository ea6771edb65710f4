"""API keys. Only a hash is kept: a key has 256 random bits, so a plain SHA-256 of it cannot be guessed."""

import uuid
from datetime import datetime

from sqlalchemy import ARRAY, ForeignKeyConstraint, Index, PrimaryKeyConstraint, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.orm_base import Base
from shared.tenancy import TenantOwned


class ApiKey(TenantOwned, Base):
    """A key acts as the user who made it, within `scopes` and, if set, within one project. A key made with another key,
    `created_by_key`, ends with that one."""

    __tablename__ = "api_keys"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "id"),
        ForeignKeyConstraint(["tenant_id", "user_id"], ["memberships.tenant_id", "memberships.user_id"]),
        ForeignKeyConstraint(["tenant_id", "created_by_key"], ["api_keys.tenant_id", "api_keys.id"]),
        Index("ix_api_keys_key_hash", "key_hash"),
        Index("ix_api_keys_tenant_id_created_at_id", "tenant_id", "created_at", "id"),
        Index("ix_api_keys_tenant_id_user_id", "tenant_id", "user_id"),
        Index("ix_api_keys_tenant_id_created_by_key", "tenant_id", "created_by_key"),
    )

    id: Mapped[uuid.UUID] = mapped_column(server_default=text("uuidv7()"))
    user_id: Mapped[uuid.UUID]
    name: Mapped[str] = mapped_column(Text)
    prefix: Mapped[str] = mapped_column(Text)
    key_hash: Mapped[bytes]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    project_id: Mapped[uuid.UUID | None]
    created_by_key: Mapped[uuid.UUID | None]
    revision: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
