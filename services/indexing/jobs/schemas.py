"""HTTP shapes of jobs."""

import uuid
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from shared.events.indexing import Stage
from shared.events.projects import Lane


class JobError(BaseModel):
    code: str
    reason: str


class JobOut(BaseModel):
    """An indexing job. `error` is why it failed, or why it is waiting for a retry."""

    id: uuid.UUID
    document_id: uuid.UUID
    version: int
    state: Stage
    lane: Lane
    percent: int
    attempts: int
    chunk_count: int | None
    error: JobError | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobProgress(BaseModel):
    """Progress of a running job, at most one heartbeat old."""

    job_id: uuid.UUID
    document_id: uuid.UUID
    version: int
    stage: Stage
    percent: int
    done: int
    total: int
    unit: Literal["bytes", "pages", "chunks"]


class Progress(BaseModel):
    """A snapshot of the jobs running in a project."""

    jobs: list[JobProgress]


class DeadLetterOut(BaseModel):
    """A job that failed permanently, with evidence of why. `id` is the id of the job."""

    id: uuid.UUID
    document_id: uuid.UUID
    version: int
    code: str
    reason: str
    attempts: int
    evidence: dict[str, Any]
    failed_at: datetime
