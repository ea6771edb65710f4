"""HTTP routes of jobs: what runs, what ran, what failed."""

import uuid
from typing import Annotated

from fastapi import APIRouter

from services.indexing.dependencies import Directory, Wake
from services.indexing.jobs import views
from services.indexing.jobs.schemas import DeadLetterOut, JobOut, Progress
from shared.auth import Principal
from shared.current_principal import CurrentPrincipal, operation
from shared.pagination import Cursor, Limit, Page
from shared.service_permissions import Operation
from shared.session_dependencies import TenantSession
from shared.tenancy import after_commit

router = APIRouter(prefix="/v1/projects/{project_id}", tags=["Jobs"])
internal_router = APIRouter(prefix="/internal/projects/{project_id}", include_in_schema=False)
ProgressReader = Annotated[Principal, operation(Operation.READ_PROGRESS)]


@router.get("/jobs")
async def list_jobs(
    project_id: uuid.UUID,
    directory: Directory,
    session: TenantSession,
    principal: CurrentPrincipal,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[JobOut]:
    """Running and recent jobs."""
    return await views.jobs(session, principal, directory, project_id=project_id, cursor=cursor, limit=limit)


@router.get("/progress")
async def read_progress(
    project_id: uuid.UUID, directory: Directory, session: TenantSession, principal: CurrentPrincipal
) -> Progress:
    """Progress of the running jobs."""
    return await views.running(session, principal, directory, project_id=project_id)


@router.get("/dead-letters")
async def list_dead_letters(
    project_id: uuid.UUID,
    directory: Directory,
    session: TenantSession,
    principal: CurrentPrincipal,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[DeadLetterOut]:
    """Failed jobs with their evidence."""
    return await views.dead_letters(session, principal, directory, project_id=project_id, cursor=cursor, limit=limit)


@router.post("/dead-letters/{job_id}/redrive", status_code=202)
async def redrive(
    project_id: uuid.UUID,
    job_id: uuid.UUID,
    directory: Directory,
    session: TenantSession,
    principal: CurrentPrincipal,
    wake: Wake,
) -> JobOut:
    """Retry a failed job."""
    after_commit(session, wake)
    return await views.redrive(session, principal, directory, project_id=project_id, job_id=job_id)


@internal_router.get("/progress")
async def progress_for_a_service(project_id: uuid.UUID, session: TenantSession, _caller: ProgressReader) -> Progress:
    """Progress of the running jobs, for the service that streams it to clients."""
    return await views.running_in(session, project_id=project_id)
