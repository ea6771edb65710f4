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
    """The fields of every event of a project. The envelope's `sequence` is the project's revision."""

    subject_field: ClassVar[str] = "project_id"

    project_id: uuid.UUID
    """The project."""
    actor_id: uuid.UUID | None = None
    """The user whose request caused the event; null if no user's request did."""


class ProjectCreated(ProjectEvent):
    """A project was created; its creator is its first owner.

    Sent: once, in the transaction that creates the project.

    For: projections of project access. The first owner is announced here, not by a `ProjectMemberChanged`.
    """

    type: ClassVar[str] = "projects.project.created.v1"

    name: str
    """Its name at creation."""
    owner_id: uuid.UUID
    """Its first owner."""
    membership_number: int = 1
    """The owner's membership of the tenant for which the role is valid."""


class ProjectUpdated(ProjectEvent):
    """The name, description or metadata changed; access to the project did not.

    Sent: on every such change.

    For: clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.project.updated.v1"

    name: str
    """The name after the change, whether or not it changed."""


class ProjectDeleted(ProjectEvent):
    """A project was deleted. It is hidden at once and can be restored.

    Sent: on each deletion, so again after a restoration. No events are sent for its documents.

    For: projections of project access, which hide the project; clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.project.deleted.v1"


class ProjectRestored(ProjectEvent):
    """A deleted project was restored, with its documents and members.

    Sent: on each restoration.

    For: projections of project access, which show the project again.
    """

    type: ClassVar[str] = "projects.project.restored.v1"


class ProjectMemberChanged(ProjectEvent):
    """A user got a role in a project, or lost it.

    Sent: on every change of a project's members after its creation.

    For: projections of project access; clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.member.changed.v1"

    user_id: uuid.UUID
    """The user whose role it is."""
    role: ProjectRole | None
    """The role after the change; null if it was removed."""
    membership_number: int = 1
    """The user's membership of the tenant for which the role is valid; in a later membership it is not."""


class BatchCompleted(ProjectEvent):
    """All documents of a batch have ended: it was closed, and none of them waits or is being indexed.

    Sent: once for each batch; documents that are retried later are not told of here. Its subject is the batch, and its
    sequence 1.

    For: clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.batch.completed.v1"
    subject_field: ClassVar[str] = "batch_id"

    batch_id: uuid.UUID
    """The batch."""
    name: str
    """Its name; may be empty."""
    indexed: int = Field(ge=0)
    """Documents that search finds."""
    failed: int = Field(ge=0)
    """Documents that could not be indexed."""
    cancelled: int = Field(ge=0)
    """Documents whose indexing was cancelled."""
    deleted: int = Field(ge=0)
    """Documents that were deleted meanwhile."""


class DocumentEvent(Event):
    """The fields of every event of a document. The envelope's `sequence` is the document's revision."""

    subject_field: ClassVar[str] = "document_id"

    project_id: uuid.UUID
    """The document's project."""
    document_id: uuid.UUID
    """The document."""
    version: int = Field(ge=1)
    """The version the event is about, the newest one at the time."""
    actor_id: uuid.UUID | None = None
    """The user whose request caused the event; null if no user's request did."""


class DocumentUploaded(DocumentEvent):
    """The bytes of a document's version are stored.

    Sent: once per version, when all of its bytes are in the blob store; of a linked document again whenever it comes to
    be linked to another one, or to be indexed itself.

    For: indexing, which queues a job for it unless it is linked; clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.document.uploaded.v1"

    name: str
    """The document's name."""
    content_type: str
    """The media type as declared by the client; indexing looks at the bytes itself."""
    size: int = Field(ge=0)
    """Size in bytes."""
    sha256: str
    """Hash of the bytes, in hexadecimal."""
    metadata: dict[str, Any]
    """Metadata given by the client; search can filter by it."""
    lane: Lane
    """The lane of its job: `interactive` goes before `bulk`."""
    created_at: datetime
    """When the document was created, in UTC."""
    linked_to: uuid.UUID | None = None
    """The document whose content it shares and under which search finds it; null if it is indexed itself."""


class DocumentIndexing(DocumentEvent):
    """A worker has started to index the version.

    Sent: in the transaction that stores the new status, so a later read returns it.

    For: clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.document.indexing.v1"

    job_id: uuid.UUID
    """The indexing job."""


class DocumentIndexed(DocumentEvent):
    """The version is indexed: search finds it from now on.

    Sent: in the transaction that stores the new status, so a later read returns it.

    For: clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.document.indexed.v1"

    job_id: uuid.UUID
    """The indexing job."""
    chunk_count: int = Field(ge=0)
    """Number of chunks that search can find; 0 for a document without text."""
    title: str | None = None
    """The title that the document gives itself."""
    partly_read: tuple[str, ...] | None = None
    """Why search does not find all that the document shows, as codes in snake_case; null if nothing is known to be
    missing."""


class DocumentFailed(DocumentEvent):
    """Indexing of the version has failed permanently.

    Sent: in the transaction that stores the new status, so a later read returns it.

    For: clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.document.failed.v1"

    job_id: uuid.UUID
    """The indexing job."""
    code: str
    """Error code for programs, in snake_case."""
    reason: str
    """Error message for people; contains nothing of the document's content."""


class DocumentCancelled(DocumentEvent):
    """Indexing of the version was cancelled on request.

    Sent: in the transaction that stores the new status, so a later read returns it.

    For: clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.document.cancelled.v1"

    job_id: uuid.UUID | None = None
    """The indexing job; null if there was none yet."""


class DocumentCancelRequested(DocumentEvent):
    """A client requested that indexing of the version be cancelled.

    Sent: on each request while the version is waiting or being indexed.

    For: indexing, which responds with `indexing.job.cancelled` unless the job has already finished.
    """

    type: ClassVar[str] = "projects.document.cancel_requested.v1"


class DocumentRetryRequested(DocumentEvent):
    """A client requested a retry of a failed or cancelled version.

    Sent: on each such request; the document's status is `queued` again by then.

    For: indexing, which queues the version's job again.
    """

    type: ClassVar[str] = "projects.document.retry_requested.v1"


class DocumentUpdated(DocumentEvent):
    """The name or metadata changed; the content did not.

    Sent: on every such change.

    For: indexing, whose search returns both and filters by the metadata unless the document is linked; clients, through
    the project's feed.
    """

    type: ClassVar[str] = "projects.document.updated.v1"

    name: str
    """The name after the change, whether or not it changed."""
    metadata: dict[str, Any]
    """The metadata after the change, whether or not it changed."""
    linked_to: uuid.UUID | None = None
    """The document under which search finds this one's content; null if it is indexed itself."""


class DocumentDeleted(DocumentEvent):
    """A document was deleted. It is hidden at once and cannot be restored.

    Sent: once, in the transaction that leaves the tombstone.

    For: every service that stores data of the document, to remove it; clients, through the project's feed.
    """

    type: ClassVar[str] = "projects.document.deleted.v1"


class DocumentPurged(DocumentEvent):
    """Nothing of a deleted document is left in any store.

    Sent: once, after every service has told that it has removed what it held.

    For: clients, through the project's feed; whoever has to show that a document is gone.
    """

    type: ClassVar[str] = "projects.document.purged.v1"

    removed: dict[str, dict[str, int]]
    """What each service removed: `projects` its `versions`, `blobs` and their `bytes`, and `shared_blobs`, which stayed
    or went with another document; `indexing` its `points`, `chunks` and `batches` of vectors; `notifier` the `entries`
    of feeds that what people wrote was removed from."""
