"""Events of the projects service, stream `events.projects`. It owns a document's status, so everything a client sees
of a document comes from here, in one order."""

import uuid
from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from shared.events.envelope import Event

ProjectRole = Literal["owner", "editor", "viewer"]
Lane = Literal["interactive", "bulk"]


class ProjectEvent(Event):
    """What every event of one project says. `actor_id` is the user whose request caused it, if one did."""

    subject_field: ClassVar[str] = "project_id"

    project_id: uuid.UUID
    actor_id: uuid.UUID | None = None


class ProjectCreated(ProjectEvent):
    """A project exists; its creator is its first owner."""

    type: ClassVar[str] = "projects.project.created.v1"

    name: str
    owner_id: uuid.UUID


class ProjectUpdated(ProjectEvent):
    """Name, description or metadata changed; who may see the project did not."""

    type: ClassVar[str] = "projects.project.updated.v1"

    name: str


class ProjectDeleted(ProjectEvent):
    """A project is gone from view at once; it may be restored until it is purged."""

    type: ClassVar[str] = "projects.project.deleted.v1"


class ProjectRestored(ProjectEvent):
    """A deleted project is back, with its documents."""

    type: ClassVar[str] = "projects.project.restored.v1"


class ProjectMemberChanged(ProjectEvent):
    """A user got a role in a project, or lost it (`role` is null). Projections of access follow it."""

    type: ClassVar[str] = "projects.member.changed.v1"

    user_id: uuid.UUID
    role: ProjectRole | None


class DocumentEvent(Event):
    """What every event of one document says. The envelope's `sequence` is the document's revision."""

    subject_field: ClassVar[str] = "document_id"

    project_id: uuid.UUID
    document_id: uuid.UUID
    version: int = Field(ge=1)
    actor_id: uuid.UUID | None = None


class DocumentUploaded(DocumentEvent):
    """The bytes of a document's version are stored. Indexing makes a job of it; a client sees `document.uploaded`."""

    type: ClassVar[str] = "projects.document.uploaded.v1"

    name: str
    content_type: str
    size: int = Field(ge=0)
    sha256: str
    metadata: dict[str, Any]
    lane: Lane
    created_at: datetime


class DocumentIndexing(DocumentEvent):
    """A worker has begun. Sent when the owner of the status has taken note, so a read after it agrees."""

    type: ClassVar[str] = "projects.document.indexing.v1"

    job_id: uuid.UUID


class DocumentIndexed(DocumentEvent):
    """The version is stored and can be found by search, from this moment on."""

    type: ClassVar[str] = "projects.document.indexed.v1"

    job_id: uuid.UUID
    chunk_count: int = Field(ge=0)


class DocumentFailed(DocumentEvent):
    """Indexing gave up on the version; `reason` is a sentence for people, `code` is for programs."""

    type: ClassVar[str] = "projects.document.failed.v1"

    job_id: uuid.UUID
    code: str
    reason: str


class DocumentCancelled(DocumentEvent):
    """Indexing of the version was stopped on request."""

    type: ClassVar[str] = "projects.document.cancelled.v1"

    job_id: uuid.UUID | None = None


class DocumentCancelRequested(DocumentEvent):
    """Somebody asked to stop indexing the version. Indexing answers with `indexing.job.cancelled`, or has finished."""

    type: ClassVar[str] = "projects.document.cancel_requested.v1"


class DocumentRetryRequested(DocumentEvent):
    """Somebody asked to index a failed or cancelled version again. Indexing queues a new attempt."""

    type: ClassVar[str] = "projects.document.retry_requested.v1"


class DocumentUpdated(DocumentEvent):
    """Name or metadata changed; the content did not."""

    type: ClassVar[str] = "projects.document.updated.v1"

    name: str
    metadata: dict[str, Any]


class DocumentDeleted(DocumentEvent):
    """A document is gone from view at once. Every store removes what it holds of it; nothing brings it back."""

    type: ClassVar[str] = "projects.document.deleted.v1"
