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
    """What every event of one project says. The envelope's `sequence` is the project's revision."""

    subject_field: ClassVar[str] = "project_id"

    project_id: uuid.UUID
    """The project."""
    actor_id: uuid.UUID | None = None
    """The user whose request caused it; null when none did."""


class ProjectCreated(ProjectEvent):
    """A project exists; its creator is its first owner.

    Sent: once, with the transaction that makes the project.

    For: projections of who may see what. The first owner is told here, not in an event of the member.
    """

    type: ClassVar[str] = "projects.project.created.v1"

    name: str
    """Its name as first given."""
    owner_id: uuid.UUID
    """Its first owner."""
    membership_number: int = 1
    """The owner's membership of the tenant in which the role counts."""


class ProjectUpdated(ProjectEvent):
    """Name, description or metadata changed; who may see the project did not.

    Sent: at every change of those.

    For: clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.project.updated.v1"

    name: str
    """The name from now on, changed or not."""


class ProjectDeleted(ProjectEvent):
    """A project is gone from view at once; it may be restored.

    Sent: at each deletion, so again after a restoration. Its documents announce nothing of their own.

    For: projections of who may see what, which hide the project; clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.project.deleted.v1"


class ProjectRestored(ProjectEvent):
    """A deleted project is back, with its documents and members.

    Sent: at each restoration.

    For: projections of who may see what, which show the project again.
    """

    type: ClassVar[str] = "projects.project.restored.v1"


class ProjectMemberChanged(ProjectEvent):
    """A user got a role in a project, or lost it.

    Sent: at every change of a project's members after its creation.

    For: projections of who may see what; clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.member.changed.v1"

    user_id: uuid.UUID
    """Whose role it is."""
    role: ProjectRole | None
    """The role from now on; null once removed."""
    membership_number: int = 1
    """The user's membership of the tenant in which the role counts; it says nothing in a later one."""


class DocumentEvent(Event):
    """What every event of one document says. The envelope's `sequence` is the document's revision."""

    subject_field: ClassVar[str] = "document_id"

    project_id: uuid.UUID
    """The document's project."""
    document_id: uuid.UUID
    """The document."""
    version: int = Field(ge=1)
    """The version it is about, which is the newest when it happens."""
    actor_id: uuid.UUID | None = None
    """The user whose request caused it; null when none did."""


class DocumentUploaded(DocumentEvent):
    """The bytes of a document's version are stored.

    Sent: once per version, when all of its bytes are in the blob store.

    For: indexing, which makes a job of it; clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.document.uploaded.v1"

    name: str
    """The document's name."""
    content_type: str
    """The media type as declared by the client; indexing looks at the bytes itself."""
    size: int = Field(ge=0)
    """Bytes."""
    sha256: str
    """Hash of the bytes, in hexadecimal."""
    metadata: dict[str, Any]
    """What the client said of the document; search can filter by it."""
    lane: Lane
    """Which lane of work it goes into: `interactive` before `bulk`."""
    created_at: datetime
    """When the document was made, in UTC."""


class DocumentIndexing(DocumentEvent):
    """A worker has begun to index the version.

    Sent: when the owner of the status has taken note, so a read after it agrees.

    For: clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.document.indexing.v1"

    job_id: uuid.UUID
    """The job of indexing."""


class DocumentIndexed(DocumentEvent):
    """The version is stored and can be found by search, from this moment on.

    Sent: when the owner of the status has taken note, so a read after it agrees.

    For: clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.document.indexed.v1"

    job_id: uuid.UUID
    """The job of indexing."""
    chunk_count: int = Field(ge=0)
    """How many chunks search may find; 0 for a document without text."""


class DocumentFailed(DocumentEvent):
    """Indexing gave up on the version.

    Sent: when the owner of the status has taken note, so a read after it agrees.

    For: clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.document.failed.v1"

    job_id: uuid.UUID
    """The job of indexing."""
    code: str
    """The error for programs, in snake_case."""
    reason: str
    """The error as a sentence for people; holds no content of the document."""


class DocumentCancelled(DocumentEvent):
    """Indexing of the version was stopped on request.

    Sent: when the owner of the status has taken note, so a read after it agrees.

    For: clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.document.cancelled.v1"

    job_id: uuid.UUID | None = None
    """The job of indexing; null when there was none yet."""


class DocumentCancelRequested(DocumentEvent):
    """Somebody asked to stop indexing the version.

    Sent: at each request while the version waits or is being indexed.

    For: indexing, which answers with `indexing.job.cancelled`, or has finished.
    """

    type: ClassVar[str] = "projects.document.cancel_requested.v1"


class DocumentRetryRequested(DocumentEvent):
    """Somebody asked to index a failed or cancelled version again.

    Sent: at each such request; the document's status is `queued` again by then.

    For: indexing, which queues the version's job again.
    """

    type: ClassVar[str] = "projects.document.retry_requested.v1"


class DocumentUpdated(DocumentEvent):
    """Name or metadata changed; the content did not.

    Sent: at every change of those.

    For: indexing, whose search answers with both and filters by the metadata; clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.document.updated.v1"

    name: str
    """The name from now on, changed or not."""
    metadata: dict[str, Any]
    """The metadata from now on, changed or not."""


class DocumentDeleted(DocumentEvent):
    """A document is gone from view at once; nothing brings it back.

    Sent: once, with the transaction that leaves the tombstone.

    For: every store, to remove what it holds of the document; clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.document.deleted.v1"
