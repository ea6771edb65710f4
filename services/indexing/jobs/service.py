"""What happens to a job, in transactions of its tenant. Each change and the event that reports it are one transaction.

Requests (`enqueue`, `request_cancel`, `request_retry`, `redrive`) come from events and HTTP. Transitions (`start` to
`postpone`) come from the worker that holds the lease, and raise LeaseLost when it no longer does. Transactions that
need both lock the document before its jobs.

A job that ends without success leaves nothing: kept chunks are removed in the same transaction, points by a vector
change. Only the holder of a lease ends a running job, so points written late are always cleaned up.
"""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents import arrivals
from services.indexing.documents import repository as documents
from services.indexing.documents.models import Document
from services.indexing.generations import service as generations
from services.indexing.jobs import repository
from services.indexing.jobs.errors import JobNotFound, NotFailed, Obsolete
from services.indexing.jobs.leases import Lease
from services.indexing.jobs.models import RUNNING, Job
from shared import outbox
from shared.events.indexing import JobCancelled, JobCompleted, JobFailed, JobStarted
from shared.events.projects import Lane
from shared.telemetry import current_traceparent

# A larger document is not tried in a short place first.
_LONG_BYTES: Final = 1024 * 1024
_NO_LEASE: dict[str, Any] = {"lease_owner": None, "lease_expires_at": None}
_NO_ERROR: dict[str, Any] = {"error_code": None, "error_reason": None, "evidence": None}


# --- requests --------------------------------------------------------------------------------------------------------


async def enqueue(
    session: AsyncSession,
    *,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    version: int,
    lane: Lane,
    size: int,
    sha256: str,
    uploaded_at: datetime,
) -> None:
    """Create one job per version, however often it is requested; unfinished jobs of older versions are stopped."""
    if version > 1:
        await stop_unfinished(session, document_id, before_version=version)
    facts: dict[str, Any] = {
        "lane": lane,
        "size": size,
        "sha256": sha256,
        "long_running": size > _LONG_BYTES,
        "uploaded_at": uploaded_at,
        "traceparent": current_traceparent(),
        "correlation_id": session.info.get("correlation_id"),
    }
    added = await repository.add(session, project_id=project_id, document_id=document_id, version=version, **facts)
    if added is None:
        await _complete_early_job(session, document_id, version, facts)
        arrivals.announce(session, document_id)


async def _complete_early_job(
    session: AsyncSession, document_id: uuid.UUID, version: int, facts: dict[str, Any]
) -> None:
    """Give a job that was cancelled before its upload arrived the upload's facts, and queue it if it was retried."""
    job = await repository.locked(session, document_id, version)
    if job is None or job.state != "cancelled" or job.fencing_token or job.uploaded_at is not None:
        return
    for name, value in facts.items():
        setattr(job, name, value)
    if not job.cancel_requested:
        _requeue(job)
        job.uploaded_at = facts["uploaded_at"]


async def stop_unfinished(session: AsyncSession, document_id: uuid.UUID, *, before_version: int | None = None) -> None:
    """Cancel waiting jobs and ask running ones to stop."""
    for job in await repository.unfinished_of(session, document_id, before_version=before_version):
        await _stop(session, job)


async def request_cancel(
    session: AsyncSession, *, project_id: uuid.UUID, document_id: uuid.UUID, version: int, sequence: int
) -> None:
    """Stop the job of a version. A request that overtakes its upload leaves a cancelled job for the upload to find."""
    document = await documents.locked(session, document_id, shared=True)
    job = await repository.locked(session, document_id, version)
    if job is None and await documents.tenant_exists(session):
        job_id = await repository.add(
            session,
            project_id=project_id,
            document_id=document_id,
            version=version,
            lane="interactive",
            state="cancelled",
            revision=1,
            request_sequence=sequence,
            cancel_requested=True,
            finished_at=datetime.now(UTC),
        )
        if job_id is not None:
            event = JobCancelled(job_id=job_id, project_id=project_id, document_id=document_id, version=version)
            outbox.publish(session, event, sequence=1)
            return
        job = await repository.locked(session, document_id, version)
    if job is None or sequence <= job.request_sequence:
        return
    job.request_sequence = sequence
    if job.state not in ("failed", "cancelled"):
        await _stop(session, job)
    elif document is None and not job.cancel_requested:
        job.cancel_requested = True
        _announce_cancelled(session, job)
    else:
        # It has overtaken the retry that made the document cancellable.
        job.cancel_requested = True


async def request_retry(session: AsyncSession, *, document_id: uuid.UUID, version: int, sequence: int) -> None:
    """Index a failed or cancelled version again. Without a job there is nothing to do: the upload event creates it.

    A retry that arrives before its upload is remembered in the job that a cancel left: `cancel_requested` is false. One
    that a later cancel has overtaken queues nothing; if that cancel found nothing to stop, it is reported now.
    """
    document = await documents.locked(session, document_id, shared=True)
    job = await repository.locked(session, document_id, version)
    if job is None or (document is not None and not _is_wanted(document, version)):
        return
    ended = job.state in ("failed", "cancelled")
    if sequence <= job.request_sequence:
        if document is not None and ended and job.cancel_requested:
            job.state, job.cancel_requested = "cancelled", False
            _announce_cancelled(session, job)
        return
    job.request_sequence = sequence
    job.cancel_requested = False
    if document is not None and ended:
        _requeue(job)


async def redrive(session: AsyncSession, *, project_id: uuid.UUID, job_id: uuid.UUID) -> Job:
    """Try a failed job again.

    Raises:
        JobNotFound: no such job in the project, or its result is no longer needed.
        NotFailed: it waits, runs, or has succeeded.
    """
    job = await repository.by_id(session, project_id, job_id)
    document = None if job is None else await documents.locked(session, job.document_id, shared=True)
    if job is None or document is None or not _is_wanted(document, job.version):
        raise JobNotFound
    job = await repository.locked(session, job.document_id, job.version)
    if job is None:
        raise JobNotFound
    if job.state != "failed":
        raise NotFailed
    _requeue(job)
    return job


async def _stop(session: AsyncSession, job: Job) -> None:
    if job.state in RUNNING:
        job.cancel_requested = True
    elif job.state == "queued":
        job.state = "cancelled"
        job.finished_at = datetime.now(UTC)
        if job.fencing_token:
            await documents.drop_version(session, job.document_id, job.version)
        if job.chunk_count is not None:
            job.chunk_count = None
            await documents.enqueue_vector_change(session, job.document_id)
        _announce_cancelled(session, job)


def _announce_cancelled(session: AsyncSession, job: Job) -> None:
    job.revision += 1
    event = JobCancelled(job_id=job.id, project_id=job.project_id, document_id=job.document_id, version=job.version)
    outbox.publish(session, event, sequence=job.revision)
    arrivals.announce(session, job.document_id)


def _requeue(job: Job) -> None:
    job.state = "queued"
    job.cancel_requested = False
    job.attempts = job.deferrals = job.progress_done = 0
    job.next_run_at = datetime.now(UTC)
    job.started_at = job.finished_at = job.uploaded_at = None
    job.error_code = job.error_reason = job.evidence = None
    job.traceparent = current_traceparent()


def _is_wanted(document: Document, version: int) -> bool:
    return not document.deleted and document.version == version


# --- transitions of a leased job -------------------------------------------------------------------------------------


async def start(session: AsyncSession, lease: Lease) -> Document:
    """Announce the job, once since it was queued; returns the current document.

    Raises:
        Obsolete: deleted, or a newer version exists.
    """
    await documents.begin(session, lease.document_id)
    document = await _wanted(session, lease)
    if not lease.announced:
        started = await repository.advance(session, lease, events=1, started_at=datetime.now(UTC))
        outbox.publish(session, JobStarted(**_identity(lease)), sequence=started.revision)
    return document


async def keep_chunks(
    session: AsyncSession,
    lease: Lease,
    chunks: Sequence[dict[str, Any]],
    *,
    first: int,
    total: int,
    title: str | None = None,
    partly_read: Sequence[str] = (),
) -> None:
    """Keep some of the chunks, and what reading the version told. Once all are kept, the next worker of the job begins
    with embedding."""
    await _wanted(session, lease)
    if not first and lease.token > 1:
        # A previous worker may have kept some and not finished.
        await documents.drop_version(session, lease.document_id, lease.version)
    told: dict[str, Any] = {"title": title, "partly_read": list(partly_read) or None}
    if first + len(chunks) == total:
        await repository.advance(
            session, lease, state="embedding", chunk_count=total, progress_done=0, progress_total=total, **told
        )
    else:
        await repository.advance(session, lease)
    await documents.add_chunks(session, chunks)


async def keep_batch(session: AsyncSession, lease: Lease, *, first_index: int, model: str, vectors: bytes) -> None:
    """Keep the vectors of the chunks from `first_index` up to the lease's `done`."""
    await _wanted(session, lease)
    await repository.advance(session, lease, progress_done=lease.done)
    await documents.add_batch(
        session,
        document_id=lease.document_id,
        version=lease.version,
        first_index=first_index,
        count=lease.done - first_index,
        model=model,
        vectors=vectors,
    )


async def complete(
    session: AsyncSession,
    lease: Lease,
    *,
    described: tuple[str, dict[str, Any]],
    language: str | None,
    chunk_count: int,
    characters: int,
    average_length: float,
    kept_batches: bool,
    generation: int,
) -> None:
    """Switch search to the version. Its points are in `generation` and carry what was `described`, and `language`.

    `characters`: the length of its chunks, as keyword search measures it; `average_length`: what against.

    Raises:
        Obsolete: deleted, or a newer version exists; nothing is switched.
        GenerationSwitched: search reads another generation by now.
    """
    document = await _wanted(session, lease, exclusively=True)
    ended = await repository.advance(
        session,
        lease,
        events=1,
        state="indexed",
        finished_at=datetime.now(UTC),
        progress_done=chunk_count,
        **_NO_LEASE,
        **_NO_ERROR,
    )
    await generations.goes_live(session, project_id=lease.project_id, document_id=lease.document_id, written=generation)
    replaced, document.live_version = document.live_version, lease.version
    document.indexed_chunks, document.indexed_characters = chunk_count, characters
    document.average_length = average_length
    document.title, document.language = ended.title, language
    if replaced is not None and replaced != lease.version:
        await documents.drop_version(session, lease.document_id, replaced)
    changed = document.described != described
    if replaced is not None or changed:
        await documents.enqueue_vector_change(session, lease.document_id, describe=changed)
    if kept_batches:
        await documents.drop_batches(session, lease.document_id, lease.version)
    completed = JobCompleted(
        **_identity(lease),
        chunk_count=chunk_count,
        title=ended.title,
        partly_read=tuple(ended.partly_read) if ended.partly_read else None,
    )
    outbox.publish(session, completed, sequence=ended.revision)
    arrivals.announce(session, lease.document_id)


async def fail(session: AsyncSession, lease: Lease, *, code: str, reason: str, evidence: dict[str, Any]) -> None:
    """End the job without success. `reason` is for people, `evidence` for those who redrive it."""
    document = await documents.locked(session, lease.document_id)
    ended = await repository.advance(
        session,
        lease,
        events=1,
        state="failed",
        finished_at=datetime.now(UTC),
        chunk_count=None,
        error_code=code,
        error_reason=reason,
        evidence=evidence,
        **_NO_LEASE,
    )
    await _leave_nothing(session, lease, document)
    event = JobFailed(**_identity(lease), code=code, reason=reason, attempts=max(1, lease.attempts))
    outbox.publish(session, event, sequence=ended.revision)
    arrivals.announce(session, lease.document_id)


async def cancel(session: AsyncSession, lease: Lease, *, gave_way: bool = False) -> bool:
    """End the job as requested; False when cancellation is not (or no longer) requested and the job waits again.

    A job that `gave_way` waits behind others for a long place; what is kept stays, and the attempt does not count.
    """
    document = await documents.locked(session, lease.document_id)
    job = await repository.locked(session, lease.document_id, lease.version)
    if document and job and _is_wanted(document, lease.version) and not job.cancel_requested:
        waiting: dict[str, Any] = {"state": "queued", **_NO_LEASE}
        if gave_way:
            waiting |= {"long_running": True, "next_run_at": datetime.now(UTC), "attempts": Job.attempts - 1}
        await repository.advance(session, lease, **waiting)
        return False
    ended = await repository.advance(
        session,
        lease,
        events=1,
        state="cancelled",
        cancel_requested=False,
        finished_at=datetime.now(UTC),
        chunk_count=None,
        **_NO_LEASE,
    )
    await _leave_nothing(session, lease, document)
    outbox.publish(session, JobCancelled(**_identity(lease)), sequence=ended.revision)
    arrivals.announce(session, lease.document_id)
    return True


async def postpone(session: AsyncSession, lease: Lease, *, delay: float, counted: bool, code: str, reason: str) -> None:
    """Let the job wait until its next try. An attempt that failed through no fault of the document does not count."""
    await repository.advance(
        session,
        lease,
        state="queued",
        next_run_at=datetime.now(UTC) + timedelta(seconds=delay),
        attempts=Job.attempts if counted else Job.attempts - 1,
        deferrals=Job.deferrals if counted else Job.deferrals + 1,
        error_code=code,
        error_reason=reason,
        **_NO_LEASE,
    )


async def _wanted(session: AsyncSession, lease: Lease, *, exclusively: bool = False) -> Document:
    document = await documents.locked(session, lease.document_id, shared=not exclusively)
    if document is None or not _is_wanted(document, lease.version):
        raise Obsolete
    return document


async def _leave_nothing(session: AsyncSession, lease: Lease, document: Document | None) -> None:
    if document is None or document.live_version != lease.version:
        await documents.drop_version(session, lease.document_id, lease.version)
        await documents.enqueue_vector_change(session, lease.document_id)


def _identity(lease: Lease) -> dict[str, Any]:
    return {
        "job_id": lease.job_id,
        "project_id": lease.project_id,
        "document_id": lease.document_id,
        "version": lease.version,
    }
