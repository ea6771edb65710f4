"""HTTP shapes of projects and members."""

import re
import uuid
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field

from services.projects.metadata import Metadata
from services.projects.projects.models import ProjectMember
from services.projects.projects.service import ProjectView
from shared.events.projects import ProjectRole
from shared.request_bodies import Input, one_line

_CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def _plain_text(value: str) -> str:
    if _CONTROL_BUT_LINES.search(value):
        raise ValueError("control characters are not allowed")
    return value


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(one_line)]
Description = Annotated[str, Field(max_length=4000), AfterValidator(_plain_text)]


class ProjectCreate(Input):
    name: Name
    description: Description = ""
    metadata: Metadata = Field(default_factory=dict)


class ProjectPatch(Input):
    """Only the fields sent are changed; `metadata` is replaced as a whole. The defaults are never applied."""

    name: Name = ""
    description: Description = ""
    metadata: Metadata = Field(default_factory=dict)


class DocumentCounts(BaseModel):
    """Documents by status."""

    queued: int
    indexing: int
    indexed: int
    failed: int
    cancelled: int


class ProjectOut(BaseModel):
    """`role` is the caller's own; owners and admins of the tenant are owners of every project. `document_bytes` are
    those of the newest version of each document."""

    id: uuid.UUID
    name: str
    description: str
    metadata: dict[str, Any]
    role: ProjectRole
    status: Literal["active", "deleted"]
    document_count: int
    document_counts: DocumentCounts
    document_bytes: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, view: ProjectView) -> Self:
        counts = {name: getattr(view, name) for name in DocumentCounts.model_fields}
        return cls(
            id=view.id,
            name=view.name,
            description=view.description,
            metadata=view.metadata,
            role=view.role,
            status="active" if view.deleted_at is None else "deleted",
            document_count=sum(counts.values()),
            document_counts=DocumentCounts(**counts),
            document_bytes=view.bytes,
            created_at=view.created_at,
            updated_at=view.updated_at,
        )


class MemberPut(Input):
    role: ProjectRole


class MemberOut(BaseModel):
    user_id: uuid.UUID
    role: ProjectRole
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, member: ProjectMember) -> Self:
        return cls(user_id=member.user_id, role=member.role, created_at=member.created_at, updated_at=member.updated_at)


class AccessMember(BaseModel):
    user_id: uuid.UUID
    role: ProjectRole
    membership_number: int


class AccessOut(BaseModel):
    """For other services: the initial state of their projection of the project access."""

    project_id: uuid.UUID
    status: Literal["active", "deleted"]
    revision: int
    members: list[AccessMember]
