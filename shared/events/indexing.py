"""Events of the indexing service, stream `events.indexing`, and the ephemeral progress tick of `events.progress`."""

import uuid
from datetime import datetime
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.events.envelope import Event

Stage = Literal["queued", "extracting", "chunking", "embedding", "storing", "indexed", "failed", "cancelled"]


class JobEvent(Event):
    """What every event of one indexing job says. The envelope's `sequence` is the job's revision, which only grows."""

    subject_field: ClassVar[str] = "job_id"

    job_id: uuid.UUID
    """The job. A retry is the same job, further on in its revisions."""
    project_id: uuid.UUID
    """The document's project."""
    document_id: uuid.UUID
    """The document being indexed."""
    version: int = Field(ge=1)
    """Which version of the document."""


class JobStarted(JobEvent):
    """A worker has begun with the job.

    Sent: once each time the job was queued, by the first worker to take it; not again when another takes over.

    For: projects, which owns the document's status and tells clients in its own words.
    """

    type: ClassVar[str] = "indexing.job.started.v1"


class JobCompleted(JobEvent):
    """The version's chunks are stored and live: search finds them.

    Sent: with the transaction that makes the version the one search uses.

    For: projects, which owns the document's status and tells clients in its own words.
    """

    type: ClassVar[str] = "indexing.job.completed.v1"

    chunk_count: int = Field(ge=0)
    """How many chunks search may find; 0 for a document without text."""


class JobFailed(JobEvent):
    """The job is over without success.

    Sent: at a permanent error, or when no attempts are left. Attempts that will be repeated announce nothing.

    For: projects, which owns the document's status and tells clients in its own words.
    """

    type: ClassVar[str] = "indexing.job.failed.v1"

    code: str
    """The error for programs, in snake_case."""
    reason: str
    """The error as a sentence for people; holds no content of the document."""
    attempts: int = Field(ge=1)
    """How often it was tried."""


class JobCancelled(JobEvent):
    """The job was stopped before it finished.

    Sent: when a request to cancel is carried out, at once for a waiting job, at the next step of a running one; also
    when a deleted or replaced version makes the job pointless.

    For: projects, which owns the document's status and tells clients in its own words.
    """

    type: ClassVar[str] = "indexing.job.cancelled.v1"


class ProgressTick(BaseModel):
    """How far a running job is. Not an event: no envelope, never stored, may be lost.

    Sent: by the worker that has the job, at most 10 a second per document, to a stream that is trimmed by length.

    For: every notifier replica, which reads all of them and shows them to the clients that watch.
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
    """What the job is at."""
    percent: int = Field(ge=0, le=100)
    """How far the whole job is."""
    done: int = Field(ge=0)
    """How far the stage is, in `unit`."""
    total: int = Field(ge=0)
    """The whole of the stage, in `unit`; 0 while unknown."""
    unit: Literal["bytes", "pages", "chunks"]
    """What `done` and `total` count."""
    time: datetime
    """When it was so, in UTC."""
    traceparent: str | None = None
    """The trace the job belongs to (W3C Trace Context)."""
