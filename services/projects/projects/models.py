"""Tables of projects and who may do what in them."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, PrimaryKeyConstraint, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from services.projects.orm_base import Base
from shared.db import Timestamped
from shared.events.projects import ProjectRole
from shared.tenancy import TenantOwned


class Project(TenantOwned, Timestamped, Base):
    """A project; `deleted_at` hides it until it is restored. `revision` counts every change, including members."""

    __tablename__ = "projects"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "id"),
        Index("ix_projects_newest", "tenant_id", text("created_at DESC"), text("id DESC")),
    )

    id: Mapped[uuid.UUID] = mapped_column(server_default=text("uuidv7()"))
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    # `metadata` is SQLAlchemy's own attribute of a mapped class.
    custom_metadata: Mapped[dict[str, Any]] = mapped_column("metadata")
    revision: Mapped[int] = mapped_column(BigInteger)
    deleted_at: Mapped[datetime | None]


class ProjectMember(TenantOwned, Timestamped, Base):
    """A user's role in a project. It counts in the membership of the tenant it was granted in, not in a later one."""

    __tablename__ = "project_members"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "project_id", "user_id"),
        ForeignKeyConstraint(["tenant_id", "project_id"], ["projects.tenant_id", "projects.id"]),
        Index("ix_project_members_user", "tenant_id", "user_id"),
    )

    project_id: Mapped[uuid.UUID]
    user_id: Mapped[uuid.UUID]
    role: Mapped[ProjectRole] = mapped_column(Text)
    membership_number: Mapped[int]
