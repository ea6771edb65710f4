"""Tenants. A tenant is isolated like everything that belongs to one: its id is its `tenant_id`."""

import uuid
from datetime import datetime

from sqlalchemy import Index, PrimaryKeyConstraint, Text
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.orm_base import Base
from shared.db import Timestamped
from shared.tenancy import TenantOwned


class Tenant(TenantOwned, Timestamped, Base):
    """`deleted_at` ends a tenant for its members at once. Other services erase what they hold; its rows here stay."""

    __tablename__ = "tenants"
    __table_args__ = (PrimaryKeyConstraint("tenant_id"), Index("ix_tenants_created_by", "created_by"))

    created_by: Mapped[uuid.UUID | None]
    name: Mapped[str] = mapped_column(Text)
    revision: Mapped[int] = mapped_column(default=1)
    deleted_at: Mapped[datetime | None]
