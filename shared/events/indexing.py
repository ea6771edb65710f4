"""Events of the indexing service, stream `events.indexing`, and the ephemeral progress tick of `events.progress`."""

import uuid
from datetime import datetime
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.events.envelope import Event

Stage = Literal["queued", "extracting", "chunking", "embedding", "storing", "indexed", "failed", "cancelled"]


class JobEvent(Event):
    """The fields of every event of a job. The envelope's `sequence` is the job's revision, which only grows."""

    subject_field: ClassVar[str] = "job_id"

    job_id: uuid.UUID
    """The job. A retry is the same job with a higher revision."""
    project_id: uuid.UUID
    """The document's project."""
    document_id: uuid.UUID
    """The document being indexed."""
    version: int = Field(ge=1)
    """The version of the document."""


class JobStarted(JobEvent):
    """A worker has started the job.

    Sent: once each time the job is queued, by the first worker to take it; not again when another worker takes over.

    For: projects, which owns the document's status and announces it to clients with an event of its own.
    """

    type: ClassVar[str] = "indexing.job.started.v1"


class JobCompleted(JobEvent):
    """The version's chunks are stored and live: search finds them.

    Sent: in the transaction that switches search to the version.

    For: projects, which owns the document's status and announces it to clients with an event of its own.
    """

    type: ClassVar[str] = "indexing.job.completed.v1"

    chunk_count: int = Field(ge=0)
    """Number of chunks that search can find; 0 for a document without text."""


class JobFailed(JobEvent):
    """The job has failed permanently.

    Sent: on a permanent error, or when no attempts are left; not for an attempt that will be retried.

    For: projects, which owns the document's status and announces it to clients with an event of its own.
    """

    type: ClassVar[str] = "indexing.job.failed.v1"

    code: str
    """Error code for programs, in snake_case."""
    reason: str
    """Error message for people; contains nothing of the document's content."""
    attempts: int = Field(ge=1)
    """Number of attempts."""


class JobCancelled(JobEvent):
    """The job was stopped before it finished.

    Sent: when a cancellation takes effect: at once for a waiting job, at the next step of a running one; also when the
    version was deleted or replaced.

    For: projects, which owns the document's status and announces it to clients with an event of its own.
    """

    type: ClassVar[str] = "indexing.job.cancelled.v1"


class ProgressTick(BaseModel):
    """Progress of a running job. Not an event: it has no envelope, is never stored and may be lost.

    Sent: by the worker that runs the job, at most 10 a second per document, to a stream that is trimmed by length.

    For: every notifier replica, which reads all of them and sends them to the clients that are connected.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    tenant_id: uuid.UUID
    """The tenant of the job."""
    project_id: uuid.UUID
    """The document's project."""
    document_id: uuid.UUID
    """The document being indexed."""
    job_id: uuid.UUID
    """The job."""
    stage: Stage
    """The current stage of the job."""
    percent: int = Field(ge=0, le=100)
    """Progress of the whole job."""
    done: int = Field(ge=0)
    """Progress of the stage, in `unit`."""
    total: int = Field(ge=0)
    """Size of the stage, in `unit`; 0 while unknown."""
    unit: Literal["bytes", "pages", "chunks"]
    """What `done` and `total` count."""
    time: datetime
    """When the progress was measured, in UTC."""
    traceparent: str | None = None
    """The trace the job belongs to (W3C Trace Context)."""
