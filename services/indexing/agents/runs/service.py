"""What happens to a run, in transactions of its tenant. Each change and the events that tell of it are one transaction,
which locks the run's turn first and the run after it.

Requests (`create`, `cancel`, `delete`) come from HTTP, `lose_*` from events. Whoever ends a run takes its turn away
from the worker that has it: that worker can write nothing more, and stops within a second (`agents.execution`).

Who may see a run: whoever may search its project and has its id. Listing runs takes the right to read documents, since
a credential for search alone may be public, and questions are not. To cancel or delete a run takes its own user, or the
right to write documents.
"""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.agents.agent import Agent
from services.indexing.agents.contracts import Exhausted
from services.indexing.agents.runs import repository
from services.indexing.agents.runs.errors import InvalidInput, RunNotFound, TooManyRuns
from services.indexing.agents.runs.models import UNFINISHED, Run, RunTurn
from services.indexing.agents.runs.schemas import (
    Budget,
    FollowedRun,
    RunDetail,
    RunError,
    RunOut,
    RunRequest,
    StepOut,
    UsageOut,
)
from services.indexing.documents import repository as documents
from shared import outbox
from shared.auth import Principal, Scope
from shared.errors import Forbidden, NotFound
from shared.events.indexing import RunDeleted, RunEnded, RunEvent, RunStatus
from shared.pagination import Page, cut_page, decode_cursor
from shared.problems import FieldErrors
from shared.project_access import ProjectDirectory
from shared.telemetry import current_traceparent

MOST_UNFINISHED: Final = 200
"""Runs of a tenant that wait or are under way."""

KEPT_FOR: Final = timedelta(days=30)
"""How long a run is kept after its end."""

ACCESS_REMOVED: Final[dict[str, Any]] = {
    "status": "cancelled",
    "code": "access_removed",
    "reason": "Whoever started the run has no access any more.",
}
"""How a run ends whose caller may not search the project any more."""


# --- requests --------------------------------------------------------------------------------------------------------


async def create(
    session: AsyncSession,
    principal: Principal,
    directory: ProjectDirectory,
    agent: Agent,
    *,
    project_id: uuid.UUID,
    request: RunRequest,
) -> Run:
    """A run that waits for a worker.

    Raises:
        NotFound, Forbidden: see `ProjectDirectory.require`.
        InvalidInput: the input does not fit the agent's contract.
        TooManyRuns: the tenant has as many as it may.
    """
    await directory.require(session, principal, project_id=project_id, scope=Scope.SEARCH)
    given = _input_of(agent, request)
    if not await documents.tenant_exists(session):
        raise NotFound
    if await repository.unfinished(session) >= MOST_UNFINISHED:
        raise TooManyRuns(retry_after=5)
    limits, asked = agent.budget, request.budget
    run = Run(
        project_id=project_id,
        user_id=principal.user_id,
        principal=principal.claims(),
        agent=agent.name,
        agent_version=agent.version,
        input=given,
        on_disconnect=request.on_disconnect,
        seconds_limit=limits.seconds if asked.seconds is None else asked.seconds,
        model_calls_limit=limits.model_calls if asked.model_calls is None else asked.model_calls,
        model_tokens_limit=limits.model_tokens if asked.model_tokens is None else asked.model_tokens,
        traceparent=current_traceparent(),
        correlation_id=session.info.get("correlation_id"),
    )
    await repository.add(session, run)
    return run


def _input_of(agent: Agent, request: RunRequest) -> dict[str, Any]:
    try:
        parsed = agent.input.model_validate(request.input)
    except ValidationError as error:
        found = FieldErrors()
        for item in error.errors(include_url=False, include_input=False):
            found.add(("input", *item["loc"]), item["msg"])
        raise found.of(InvalidInput()) from error
    return parsed.model_dump(mode="json", by_alias=True, exclude_none=True)


async def cancel(
    session: AsyncSession,
    principal: Principal,
    directory: ProjectDirectory,
    *,
    project_id: uuid.UUID,
    run_id: uuid.UUID,
) -> RunDetail:
    """End the run, unless it has ended already.

    Raises:
        RunNotFound: no such run in the project, or none that the caller may end.
        NotFound, Forbidden: see `ProjectDirectory.require`.
    """
    await _require_own(session, principal, directory, project_id, run_id)
    await end(session, run_id, status="cancelled", code="cancelled", reason="The run was cancelled by request.")
    return await _detail(session, project_id, run_id)


async def leave(session: AsyncSession, *, project_id: uuid.UUID, run_id: uuid.UUID, user_id: uuid.UUID | None) -> None:
    """End the run if it asks to be cancelled when its own user stops following it, as has happened now."""
    run = await repository.in_project(session, project_id, run_id)
    if run is None or run.on_disconnect != "cancel" or run.user_id is None or run.user_id != user_id:
        return
    await end(session, run_id, status="cancelled", code="disconnected", reason="The client stopped following the run.")


async def delete(
    session: AsyncSession,
    principal: Principal,
    directory: ProjectDirectory,
    *,
    project_id: uuid.UUID,
    run_id: uuid.UUID,
) -> None:
    """Remove the run with all it holds, wherever it is; a worker that has it stops.

    Raises:
        RunNotFound, NotFound, Forbidden: as `cancel`.
    """
    await _require_own(session, principal, directory, project_id, run_id)
    await forget(session, run_id)


async def _require_own(
    session: AsyncSession,
    principal: Principal,
    directory: ProjectDirectory,
    project_id: uuid.UUID,
    run_id: uuid.UUID,
) -> None:
    await directory.require(session, principal, project_id=project_id, scope=Scope.SEARCH)
    run = await repository.in_project(session, project_id, run_id)
    if run is None:
        raise RunNotFound
    if run.user_id is None or run.user_id != principal.user_id:
        try:
            await directory.require(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)
        except Forbidden as error:
            raise Forbidden("Only whoever started the run, or may change documents, can do this.") from error


# --- reading ---------------------------------------------------------------------------------------------------------


async def read(
    session: AsyncSession,
    principal: Principal,
    directory: ProjectDirectory,
    *,
    project_id: uuid.UUID,
    run_id: uuid.UUID,
) -> RunDetail:
    """One run.

    Raises:
        RunNotFound: no such run in the project.
        NotFound, Forbidden: see `ProjectDirectory.require`.
    """
    await directory.require(session, principal, project_id=project_id, scope=Scope.SEARCH)
    return await _detail(session, project_id, run_id)


async def page(
    session: AsyncSession,
    principal: Principal,
    directory: ProjectDirectory,
    *,
    project_id: uuid.UUID,
    cursor: str | None,
    limit: int,
) -> Page[RunOut]:
    """Runs of a project, newest first."""
    await directory.require(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_READ)
    rows = await repository.page_for_project(session, project_id, before=decode_cursor(cursor), limit=limit + 1)
    shown, next_cursor = cut_page(rows, limit, lambda run: (run.created_at, run.id))
    return Page(items=[RunOut(**_shown(run)) for run in shown], next_cursor=next_cursor)


async def followed(session: AsyncSession, *, project_id: uuid.UUID, run_id: uuid.UUID) -> FollowedRun:
    """A run as a service has to know it that has checked access itself.

    Raises:
        RunNotFound: no such run in the project.
    """
    run = await repository.in_project(session, project_id, run_id)
    if run is None:
        raise RunNotFound
    return FollowedRun(run=await _detail(session, project_id, run_id), last_sequence=run.events)


async def _detail(session: AsyncSession, project_id: uuid.UUID, run_id: uuid.UUID) -> RunDetail:
    run = await repository.in_project(session, project_id, run_id)
    if run is None:
        raise RunNotFound
    steps = [
        StepOut(step=step.step, attempts=step.attempt, started_at=step.started_at, ended_at=step.ended_at)
        for step in await repository.steps(session, run_id)
    ]
    return RunDetail(**_shown(run), steps=steps)


def _shown(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "project_id": run.project_id,
        "agent": run.agent,
        "agent_version": run.agent_version,
        "status": run.status,
        "input": run.input,
        "output": run.output,
        "exhausted": run.exhausted,
        "error": None if run.error_code is None else RunError(code=run.error_code, reason=run.error_reason or ""),
        "budget": Budget(
            seconds=run.seconds_limit, model_calls=run.model_calls_limit, model_tokens=run.model_tokens_limit
        ),
        "usage": UsageOut(
            model_calls=run.model_calls,
            model_tokens=run.model_tokens,
            input_tokens=run.input_tokens,
            output_tokens=run.output_tokens,
        ),
        "on_disconnect": run.on_disconnect,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
    }


# --- transitions -----------------------------------------------------------------------------------------------------


def tell(session: AsyncSession, run: Run, event: type[RunEvent], **facts: Any) -> None:
    """Publish the next event of a run, which the transaction has locked."""
    run.events += 1
    outbox.publish(session, event(run_id=run.id, project_id=run.project_id, **facts), sequence=run.events)


async def end(
    session: AsyncSession,
    run_id: uuid.UUID,
    *,
    status: RunStatus,
    output: dict[str, Any] | None = None,
    exhausted: Exhausted | None = None,
    code: str | None = None,
    reason: str | None = None,
) -> bool:
    """End the run, whoever has its turn; False if it is gone or has ended already."""
    turn = await repository.turn_of(session, run_id)
    run = None if turn is None else await repository.locked(session, run_id)
    if turn is None or run is None or run.status not in UNFINISHED:
        return False
    run.status, run.output, run.exhausted = status, output, exhausted
    run.error_code, run.error_reason = code, reason
    run.finished_at = datetime.now(UTC)
    _retire(turn)
    tell(session, run, RunEnded, status=status, output=output, exhausted=exhausted, code=code, reason=reason)
    return True


def _retire(turn: RunTurn) -> None:
    turn.ended, turn.attempts, turn.due_at = True, 0, datetime.now(UTC) + KEPT_FOR


async def forget(session: AsyncSession, run_id: uuid.UUID) -> None:
    """Remove the run and have its feed removed."""
    if await repository.turn_of(session, run_id) is None:
        return
    run = await repository.locked(session, run_id)
    if run is not None:
        tell(session, run, RunDeleted)
        await session.flush()
    await repository.remove(session, run_id)


# --- what the documents, the project or the tenant of a run go through ------------------------------------------------


async def lose_document(session: AsyncSession, document_id: uuid.UUID) -> None:
    """Runs that were given text of a deleted document end, and are removed soon. They are not shown from now on."""
    for run_id in await repository.unfinished_with(session, document_id):
        await end(
            session,
            run_id,
            status="failed",
            code="document_deleted",
            reason="A document that the run had read was deleted.",
        )
    await session.flush()
    await repository.forget_soon(session, document_id)


async def lose_project(session: AsyncSession, project_id: uuid.UUID) -> None:
    """Unfinished runs of a deleted project end."""
    await _end_all(session, project_id)


async def lose_tenant(session: AsyncSession) -> None:
    """All runs of the session's tenant end, and are removed soon."""
    await _end_all(session, None)
    await session.flush()
    await repository.forget_soon(session, None)


async def _end_all(session: AsyncSession, project_id: uuid.UUID | None) -> None:
    for run_id in await repository.unfinished_in(session, project_id):
        await end(session, run_id, **ACCESS_REMOVED)
