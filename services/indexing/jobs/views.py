"""Jobs as clients see them: access, pages, shapes."""

import uuid

from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing import progress
from services.indexing.jobs import repository, service
from services.indexing.jobs.models import Job
from services.indexing.jobs.schemas import DeadLetterOut, JobError, JobOut, JobProgress, Progress
from shared.auth import Principal, Scope
from shared.pagination import Page, cut_page, decode_cursor
from shared.project_access import ProjectDirectory

_MOST_RUNNING = 200


async def jobs(
    session: AsyncSession,
    principal: Principal,
    directory: ProjectDirectory,
    *,
    project_id: uuid.UUID,
    cursor: str | None,
    limit: int,
) -> Page[JobOut]:
    """Newest first."""
    await directory.require(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_READ)
    rows = await repository.page_for_project(session, project_id, before=decode_cursor(cursor), limit=limit + 1)
    page, next_cursor = cut_page(rows, limit, lambda job: (job.created_at, job.id))
    return Page(items=[job_out(job) for job in page], next_cursor=next_cursor)


async def running(
    session: AsyncSession, principal: Principal, directory: ProjectDirectory, *, project_id: uuid.UUID
) -> Progress:
    """A snapshot of the running jobs."""
    await directory.require(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_READ)
    return await running_in(session, project_id=project_id)


async def running_in(session: AsyncSession, *, project_id: uuid.UUID) -> Progress:
    """As `running`, for a service that has checked access itself."""
    rows = await repository.running_in_project(session, project_id, limit=_MOST_RUNNING)
    return Progress(jobs=[_progress(job) for job in rows])


async def dead_letters(
    session: AsyncSession,
    principal: Principal,
    directory: ProjectDirectory,
    *,
    project_id: uuid.UUID,
    cursor: str | None,
    limit: int,
) -> Page[DeadLetterOut]:
    """Failed jobs, newest first."""
    await directory.require(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_READ)
    rows = await repository.page_for_project(
        session, project_id, states=["failed"], before=decode_cursor(cursor), limit=limit + 1
    )
    page, next_cursor = cut_page(rows, limit, lambda job: (job.created_at, job.id))
    return Page(items=[_dead_letter(job) for job in page], next_cursor=next_cursor)


async def redrive(
    session: AsyncSession,
    principal: Principal,
    directory: ProjectDirectory,
    *,
    project_id: uuid.UUID,
    job_id: uuid.UUID,
) -> JobOut:
    """Retry a failed job."""
    await directory.require(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)
    return job_out(await service.redrive(session, project_id=project_id, job_id=job_id))


def job_out(job: Job) -> JobOut:
    error = JobError(code=job.error_code, reason=job.error_reason or "") if job.error_code else None
    return JobOut(
        id=job.id,
        document_id=job.document_id,
        version=job.version,
        state=job.state,
        lane=job.lane,
        percent=_progress(job).percent,
        attempts=job.attempts,
        chunk_count=job.chunk_count,
        error=error,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def _progress(job: Job) -> JobProgress:
    reading = progress.read(job.state, job.progress_done, job.progress_total)
    return JobProgress(
        job_id=job.id,
        document_id=job.document_id,
        version=job.version,
        stage=job.state,
        percent=reading.percent,
        done=reading.done,
        total=reading.total,
        unit=reading.unit,
    )


def _dead_letter(job: Job) -> DeadLetterOut:
    return DeadLetterOut(
        id=job.id,
        document_id=job.document_id,
        version=job.version,
        code=job.error_code or "",
        reason=job.error_reason or "",
        attempts=job.attempts,
        evidence=job.evidence or {},
        failed_at=job.finished_at or job.updated_at,
    )
