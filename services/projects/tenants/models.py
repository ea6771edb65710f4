"""Tables of a tenant's usage, and of clean-up due for deleted tenants and users who left."""

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, Index, PrimaryKeyConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from services.projects.orm_base import Base
from shared.tenancy import TenantOwned


class TenantUsage(TenantOwned, Base):
    """What counts against a tenant's quotas, updated with every change. Every addition changes this row in the same
    transaction, so it is also the tombstone: once `deleted_at` is set, nothing can be added to the tenant."""

    __tablename__ = "tenant_usage"
    __table_args__ = (PrimaryKeyConstraint("tenant_id"),)

    projects: Mapped[int] = mapped_column(BigInteger)
    documents: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    # Unfinished ones; their bytes are among `bytes`.
    uploads: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    deleted_at: Mapped[datetime | None]


class TenantErasure(TenantOwned, Base):
    """A deleted tenant whose rows and blobs are still to be removed."""

    __tablename__ = "tenant_erasures"
    __table_args__ = (PrimaryKeyConstraint("tenant_id"), Index("ix_tenant_erasures_due_at", "due_at"))

    due_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class Departure(TenantOwned, Base):
    """A user who left the tenant and whose roles in projects, granted until then, are still to be removed."""

    __tablename__ = "departures"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "user_id"), Index("ix_departures_due_at", "due_at"))

    user_id: Mapped[uuid.UUID]
    membership_number: Mapped[int]
    due_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
