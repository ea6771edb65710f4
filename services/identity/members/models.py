"""Memberships: which user belongs to which tenant, in which role."""

import uuid

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, PrimaryKeyConstraint, Text
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.orm_base import Base
from shared.db import Timestamped
from shared.events.identity import TenantRole
from shared.tenancy import TenantOwned


class Membership(TenantOwned, Timestamped, Base):
    """`role` is null once the user has left. The row stays, so that `revision` continues if they return and no consumer
    takes the new membership for an old event.

    `number` counts the memberships of this user in this tenant: what was granted in an earlier one stays lost.

    `user_id` is not a foreign key: checking it would reveal to a tenant which users exist elsewhere.
    """

    __tablename__ = "memberships"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "user_id"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"]),
        CheckConstraint("role IN ('owner', 'admin', 'member')", name="known_role"),
        Index("ix_memberships_user_id", "user_id"),
    )

    user_id: Mapped[uuid.UUID]
    role: Mapped[TenantRole | None] = mapped_column(Text)
    revision: Mapped[int] = mapped_column(default=1)
    number: Mapped[int] = mapped_column(default=1)
