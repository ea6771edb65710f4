"""What clients see of the events of a run."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.notifier.runs import service
from services.notifier.runs.repository import NewRunEvent
from services.notifier.runs.service import Announce
from shared.events.envelope import Envelope
from shared.events.indexing import (
    RunAnswerRestarted,
    RunCitationVerified,
    RunDeleted,
    RunEnded,
    RunEvent,
    RunPassagesFound,
    RunStarted,
    RunStepCompleted,
    RunStepStarted,
    RunTextAdded,
)
from shared.handlers import Handler
from shared.telemetry import current_traceparent, span

SHOWN: Final[dict[type[RunEvent], str]] = {
    RunStarted: "run.started",
    RunStepStarted: "step.started",
    RunStepCompleted: "step.completed",
    RunPassagesFound: "passages",
    RunTextAdded: "delta",
    RunAnswerRestarted: "answer.restarted",
    RunCitationVerified: "citation",
    RunEnded: "done",
}
"""Under which type an event of a run is shown. A run that failed ends with `error` instead of `done`."""


def run_handlers(kept_for: timedelta, announce: Announce) -> Sequence[Handler[Any]]:
    """Handlers that append to the feeds of runs, or remove them.

    Args:
        announce: called after the commit of each change; must not block.
    """

    async def append(session: AsyncSession, event: RunEvent, envelope: Envelope) -> None:
        with span("sse append", attributes={"quarry.event.type": envelope.type}):
            await service.append(session, _new_event(event, envelope), kept_for=kept_for, announce=announce)

    async def forget(session: AsyncSession, event: RunDeleted, envelope: Envelope) -> None:
        await service.forget(session, _new_event(event, envelope), kept_for=kept_for, announce=announce)

    appending: list[Handler[Any]] = [Handler(event, append, f"notifier.runs.{event.type}") for event in SHOWN]
    return (*appending, Handler(RunDeleted, forget, "notifier.runs.forget"))


def _new_event(event: RunEvent, envelope: Envelope) -> NewRunEvent:
    failed = isinstance(event, RunEnded) and event.status == "failed"
    return NewRunEvent(
        run_id=event.run_id,
        project_id=event.project_id,
        sequence=envelope.sequence,
        type="error" if failed else SHOWN.get(event.__class__, "deleted"),
        time=envelope.time,
        data=event.model_dump(mode="json", exclude={"project_id"}),
        traceparent=current_traceparent(),
    )
