"""Tables of projects and who may do what in them."""

import uuid
from datetime import datetime
from typing import Any, Final

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


COUNTED: Final = ("queued", "indexing", "indexed", "failed", "cancelled", "bytes")
"""What `ProjectContents` counts."""


class ProjectContents(TenantOwned, Base):
    """How many visible documents of each status a project has, and the bytes of their newest versions. A trigger on
    `documents` keeps it; there is no row before the first document."""

    __tablename__ = "project_contents"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "project_id"),
        ForeignKeyConstraint(["tenant_id", "project_id"], ["projects.tenant_id", "projects.id"]),
    )

    project_id: Mapped[uuid.UUID]
    queued: Mapped[int] = mapped_column(BigInteger)
    indexing: Mapped[int] = mapped_column(BigInteger)
    indexed: Mapped[int] = mapped_column(BigInteger)
    failed: Mapped[int] = mapped_column(BigInteger)
    cancelled: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)


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
