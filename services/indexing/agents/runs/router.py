"""HTTP routes of runs.

A response with `CONTINUES` has no body of its own: the gateway goes on with what the notifier sends for the path in it,
inside the same response. The header never leaves the gateway.
"""

import uuid
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from services.indexing.agents import asking
from services.indexing.agents.dependencies import RunsDependency
from services.indexing.agents.runs import service
from services.indexing.agents.runs.schemas import AskRequest, FollowedRun, RunDetail, RunOut, RunRequest
from services.indexing.dependencies import Directory
from shared.auth import Principal
from shared.current_principal import CurrentPrincipal, operation
from shared.pagination import Cursor, Limit, Page
from shared.response_continuation import CONTINUES
from shared.service_permissions import Operation
from shared.session_dependencies import CallerTransactions, TenantSession
from shared.tenancy import after_commit

RUN_ID: Final = "Quarry-Run-Id"

router = APIRouter(prefix="/v1/projects/{project_id}", tags=["Agents"])
internal_router = APIRouter(prefix="/internal/projects/{project_id}/runs/{run_id}", include_in_schema=False)
RunFollower = Annotated[Principal, operation(Operation.FOLLOW_RUNS)]

_STREAM: Final = {"text/event-stream": {"schema": {"type": "string"}}}
_HEADERS: Final = {RUN_ID: {"description": "The id of the run.", "schema": {"type": "string", "format": "uuid"}}}


def _responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    described = {
        200: "The run once it has ended; with `stream`, its events.",
        201: "The run that was started; with `stream`, its events.",
        202: "The run has not ended yet: follow its events, or look again.",
    }
    return {
        status: {"description": described[status], "headers": _HEADERS, "model": RunDetail, "content": _STREAM}
        for status in statuses
    }


@router.post("/runs", status_code=201, response_model=RunDetail, responses=_responses(201))
async def start_run(
    project_id: uuid.UUID,
    runs: RunsDependency,
    transactions: CallerTransactions,
    principal: CurrentPrincipal,
    response: Response,
    body: RunRequest,
) -> Response | RunDetail:
    """Start a run of an agent."""
    run_id = await asking.start(runs, transactions, principal, project_id=project_id, request=body)
    if body.stream:
        return _continued(project_id, run_id, status=201)
    response.headers[RUN_ID] = str(run_id)
    response.headers["Location"] = f"/v1/projects/{project_id}/runs/{run_id}"
    async with transactions.begin() as session:
        return await service.read(session, principal, runs.directory, project_id=project_id, run_id=run_id)


@router.post("/ask", response_model=RunDetail, responses=_responses(200, 202))
async def ask(
    project_id: uuid.UUID,
    runs: RunsDependency,
    transactions: CallerTransactions,
    principal: CurrentPrincipal,
    request: Request,
    response: Response,
    body: AskRequest,
) -> Response | RunDetail:
    """Ask a question about the documents of a project."""
    run_id = await asking.start(runs, transactions, principal, project_id=project_id, request=body.run())
    if body.stream:
        return _continued(project_id, run_id, status=200)
    response.headers[RUN_ID] = str(run_id)
    run = await asking.ended(
        runs, transactions, principal, project_id=project_id, run_id=run_id, gone=request.is_disconnected
    )
    response.status_code = 202 if asking.is_unfinished(run) else 200
    return run


def _continued(project_id: uuid.UUID, run_id: uuid.UUID, *, status: int) -> Response:
    where = f"/v1/projects/{project_id}/runs/{run_id}/events"
    return Response(status_code=status, media_type="text/event-stream", headers={CONTINUES: where, RUN_ID: str(run_id)})


@router.get("/runs")
async def list_runs(
    project_id: uuid.UUID,
    directory: Directory,
    session: TenantSession,
    principal: CurrentPrincipal,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[RunOut]:
    """Runs of the project, newest first."""
    return await service.page(session, principal, directory, project_id=project_id, cursor=cursor, limit=limit)


@router.get("/runs/{run_id}")
async def get_run(
    project_id: uuid.UUID,
    run_id: uuid.UUID,
    directory: Directory,
    session: TenantSession,
    principal: CurrentPrincipal,
) -> RunDetail:
    """A run, with its output once it has ended."""
    return await service.read(session, principal, directory, project_id=project_id, run_id=run_id)


@router.delete("/runs/{run_id}", status_code=204)
async def delete_run(
    project_id: uuid.UUID,
    run_id: uuid.UUID,
    runs: RunsDependency,
    directory: Directory,
    session: TenantSession,
    principal: CurrentPrincipal,
) -> None:
    """Delete a run with its events; one that has not ended is stopped."""
    after_commit(session, runs.interrupt)
    await service.delete(session, principal, directory, project_id=project_id, run_id=run_id)


@router.post("/runs/{run_id}/cancel")
async def cancel_run(
    project_id: uuid.UUID,
    run_id: uuid.UUID,
    runs: RunsDependency,
    directory: Directory,
    session: TenantSession,
    principal: CurrentPrincipal,
) -> RunDetail:
    """Stop a run. One that has ended stays as it is."""
    after_commit(session, runs.interrupt)
    return await service.cancel(session, principal, directory, project_id=project_id, run_id=run_id)


# --- for the service that streams events ------------------------------------------------------------------------------


class Left(BaseModel):
    """A client of this user has left the stream of a run."""

    user_id: uuid.UUID | None


@internal_router.get("")
async def followed_run(
    project_id: uuid.UUID, run_id: uuid.UUID, session: TenantSession, _caller: RunFollower
) -> FollowedRun:
    """A run, for the service that streams its events to clients whose access it has checked."""
    return await service.followed(session, project_id=project_id, run_id=run_id)


@internal_router.post("/left", status_code=204)
async def leave_run(
    project_id: uuid.UUID,
    run_id: uuid.UUID,
    runs: RunsDependency,
    transactions: CallerTransactions,
    _caller: RunFollower,
    body: Left,
) -> None:
    """A client has left the stream of the run, which may ask to be cancelled then."""
    await asking.left(runs, transactions, project_id=project_id, run_id=run_id, user_id=body.user_id)
