"""Tenants. A tenant is isolated like everything that belongs to one: its id is its `tenant_id`."""

from datetime import datetime

from sqlalchemy import PrimaryKeyConstraint, Text
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.schema import Base
from shared.db import Timestamped
from shared.tenancy import TenantOwned


class Tenant(TenantOwned, Timestamped, Base):
    """`deleted_at` ends a tenant for its members at once; its data is erased later."""

    __tablename__ = "tenants"
    __table_args__ = (PrimaryKeyConstraint("tenant_id"),)

    name: Mapped[str] = mapped_column(Text)
    revision: Mapped[int] = mapped_column(default=1)
    deleted_at: Mapped[datetime | None]
