"""Tenants. A tenant's own id is its `tenant_id`, so that isolation is the same as everywhere."""

from datetime import datetime

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.schema import Base
from shared.db import Identified, Timestamped
from shared.tenancy import TenantOwned


class Tenant(TenantOwned, Identified, Timestamped, Base):
    """`deleted_at` ends a tenant for its members at once; its data is erased later."""

    __tablename__ = "tenants"
    __table_args__ = (CheckConstraint("tenant_id = id", name="owns_itself"),)

    name: Mapped[str]
    revision: Mapped[int] = mapped_column(default=1)
    deleted_at: Mapped[datetime | None]
