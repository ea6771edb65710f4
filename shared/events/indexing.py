"""Events of the indexing service, stream `events.indexing`, and the ephemeral progress tick of `events.progress`."""

import uuid
from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.events.envelope import Event

RunStatus = Literal["queued", "running", "completed", "incomplete", "failed", "cancelled"]
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
    title: str | None = None
    """The title that the document gives itself."""
    partly_read: tuple[str, ...] | None = None
    """Why search does not find all that the document shows, as codes in snake_case; null if nothing is known to be
    missing."""


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


class RunEvent(Event):
    """The fields of every event of a run. The envelope's `sequence` numbers a run's events from 1, without gaps: it is
    their place in the run's feed, in whatever order they arrive."""

    subject_field: ClassVar[str] = "run_id"

    run_id: uuid.UUID
    """The run."""
    project_id: uuid.UUID
    """The project over whose documents it runs."""


class RunStarted(RunEvent):
    """A worker has begun the run.

    Sent: once per run, in the transaction that begins its first step; not again when another worker takes over.

    For: clients, through the run's feed.
    """

    type: ClassVar[str] = "indexing.run.started.v1"

    agent: str
    """Name of the agent."""
    agent_version: int = Field(ge=1)
    """Version of the agent's contract."""


class RunStepStarted(RunEvent):
    """A step of the run has begun.

    Sent: when it begins for the first time; not again when it is repeated after a takeover.

    For: clients, through the run's feed.
    """

    type: ClassVar[str] = "indexing.run_step.started.v1"

    step: str
    """Name of the step."""


class RunStepCompleted(RunEvent):
    """A step of the run has ended, and its result is stored.

    Sent: once per step, in the transaction that stores the result.

    For: clients, through the run's feed.
    """

    type: ClassVar[str] = "indexing.run_step.completed.v1"

    step: str
    """Name of the step."""


class RunPassagesFound(RunEvent):
    """The passages that the answer may rely on were chosen.

    Sent: with the end of the step that chooses them.

    For: clients, through the run's feed. There is no text in it: that is read where documents are read.
    """

    type: ClassVar[str] = "indexing.run_passages.found.v1"

    passages: list[dict[str, Any]]
    """Places in documents: `document_id`, `document_name`, `version`, `chunk_index`, `start`, `end`, `page` and
    `score`."""


class RunTextAdded(RunEvent):
    """More of the answer's text.

    Sent: while the text is being written, at most once in 100 ms.

    For: clients, through the run's feed. The text is all of them joined, since the last `RunAnswerRestarted`.
    """

    type: ClassVar[str] = "indexing.run_text.added.v1"

    text: str
    """The added text."""


class RunAnswerRestarted(RunEvent):
    """The text sent so far does not count any more: the answer is written again.

    Sent: when a step that had sent text is repeated, or its text replaced by a later step's.

    For: clients, through the run's feed, who throw the text they have away.
    """

    type: ClassVar[str] = "indexing.run_answer.restarted.v1"

    reason: Literal["takeover", "repair"]
    """`takeover`: the worker was lost; `repair`: its quotes were not found in the documents."""


class RunCitationVerified(RunEvent):
    """A quote was found in the stored text of the version it names.

    Sent: for each citation of the answer, with the end of the step that verifies them.

    For: clients, through the run's feed.
    """

    type: ClassVar[str] = "indexing.run_citation.verified.v1"

    citation: dict[str, Any]
    """The citation, as in the answer."""


class RunEnded(RunEvent):
    """The run has ended; nothing follows but its deletion.

    Sent: once per run, in the transaction that ends it.

    For: clients, through the run's feed.
    """

    type: ClassVar[str] = "indexing.run.ended.v1"

    status: RunStatus
    """How it ended."""
    output: dict[str, Any] | None = None
    """The output of the agent; null unless `completed`, or `incomplete` with something to show."""
    exhausted: Literal["seconds", "model_calls", "model_tokens"] | None = None
    """The budget that was used up, of an `incomplete` run."""
    code: str | None = None
    """Error code for programs, of a `failed` or `cancelled` run."""
    reason: str | None = None
    """Error message for people; contains nothing of the documents' content."""


class RunDeleted(RunEvent):
    """The run is gone, with all that it quoted.

    Sent: when a client deletes it, or a document is deleted whose text it was given.

    For: the notifier, which removes the run's feed.
    """

    type: ClassVar[str] = "indexing.run.deleted.v1"


class IndexPurged(Event):
    """Nothing of a deleted document is left in the index, nor a run that was given text of it. The envelope's
    `sequence` is the document's revision with which it was deleted.

    Sent: once, when its last points and rows are gone and the events of the runs' deletion are stored.

    For: the notifier and projects, which concludes a document's deletion when all services have told.
    """

    type: ClassVar[str] = "indexing.document.purged.v1"
    subject_field: ClassVar[str] = "document_id"

    project_id: uuid.UUID
    """The document's project."""
    document_id: uuid.UUID
    """The deleted document."""
    points: int = Field(ge=0)
    """Points removed from the vector store."""
    chunks: int = Field(ge=0)
    """Passages of its text that were removed."""
    batches: int = Field(ge=0)
    """Batches of vectors, kept for a job that had not finished, that were removed."""


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
