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
    project_id: uuid.UUID
    document_id: uuid.UUID
    version: int = Field(ge=1)


class JobStarted(JobEvent):
    """A worker took the job for the first time since it was queued. Not sent again for a takeover."""

    type: ClassVar[str] = "indexing.job.started.v1"


class JobCompleted(JobEvent):
    """The version's chunks are stored and live: search finds them."""

    type: ClassVar[str] = "indexing.job.completed.v1"

    chunk_count: int = Field(ge=0)


class JobFailed(JobEvent):
    """The job is over without success: a permanent error, or no attempts left."""

    type: ClassVar[str] = "indexing.job.failed.v1"

    code: str
    reason: str
    attempts: int = Field(ge=1)


class JobCancelled(JobEvent):
    """The job was stopped on request before it finished."""

    type: ClassVar[str] = "indexing.job.cancelled.v1"


class ProgressTick(BaseModel):
    """How far a running job is. Ephemeral: written to the trimmed stream `events.progress`, at most 10 a second per
    document, never stored, may be lost. Every notifier replica reads all of them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tenant_id: uuid.UUID
    project_id: uuid.UUID
    document_id: uuid.UUID
    job_id: uuid.UUID
    stage: Stage
    percent: int = Field(ge=0, le=100)
    done: int = Field(ge=0)
    total: int = Field(ge=0)
    unit: Literal["bytes", "pages", "chunks"]
    time: datetime
    traceparent: str | None = None
