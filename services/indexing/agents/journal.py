"""The journal of a run: which steps have ended and what they gave, kept in the transactions of whoever has its turn.

Guarantees: a step that has ended is not executed again while what it was given hashes the same. Text that an attempt
had sent before is taken back (`RunAnswerRestarted`) when the step begins again.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.agents.graph import Graph, StepResult
from services.indexing.agents.runs import repository, service
from services.indexing.agents.runs.models import Run, RunStep
from shared.events.indexing import RunAnswerRestarted, RunStepCompleted, RunStepStarted, RunTextAdded

Outputs = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is: the step under way, its number in the journal, and what the steps before it gave."""

    step: str
    position: int
    outputs: dict[str, dict[str, Any]]


async def replay(session: AsyncSession, run: Run, graph: Graph) -> Place:
    """The place after all steps that have ended."""
    step, position, outputs = graph.first, 0, dict[str, dict[str, Any]]()
    for row in await repository.steps(session, run.id):
        if row.ended_at is None or row.step != step or row.input_hash != _hash(run, step, outputs):
            break
        outputs[step], following = row.output or {}, graph.after(step, row.edge or "")
        position += 1
        assert following is not None  # noqa: S101  # the last step ends the run in its own transaction
        step = following
    return Place(step, position, outputs)


async def begin(session: AsyncSession, run: Run, graph: Graph, place: Place, *, fencing: datetime) -> None:
    """The step at the place begins, for the first time or again."""
    steps = await repository.steps(session, run.id)
    row = next((row for row in steps if row.position == place.position), None)
    given = _hash(run, place.step, place.outputs)
    if row is None:
        row = RunStep(run_id=run.id, position=place.position, step=place.step, attempt=1, input_hash=given)
        row.started_at, row.fencing = datetime.now(UTC), fencing
        session.add(row)
        if place.step in graph.rewrites and any(earlier.streamed for earlier in steps):
            service.tell(session, run, RunAnswerRestarted, reason="repair")
        service.tell(session, run, RunStepStarted, step=place.step)
        return
    if row.streamed:
        service.tell(session, run, RunAnswerRestarted, reason="takeover")
    row.step, row.attempt, row.input_hash, row.streamed = place.step, row.attempt + 1, given, False
    row.output = row.edge = row.usage = row.ended_at = None
    row.fencing = fencing


async def add_text(session: AsyncSession, run: Run, place: Place, text: str) -> None:
    """The step under way has written more text."""
    row = await _row(session, run, place)
    row.streamed = True
    service.tell(session, run, RunTextAdded, text=text)


async def end(
    session: AsyncSession, run: Run, graph: Graph, place: Place, result: StepResult, *, fencing: datetime
) -> Place | None:
    """The step under way has ended with the result, and the one that follows begins: its place; None, once the run has
    ended as well."""
    row = await _row(session, run, place)
    if result.documents:
        await repository.add_documents(session, run.id, result.documents)
    row.output, row.edge, row.ended_at = result.output, result.edge, datetime.now(UTC)
    row.usage = None if result.usage is None else result.usage.model_dump(mode="json")
    row.fencing = fencing
    for event, fields in result.events:
        service.tell(session, run, event, **fields)
    service.tell(session, run, RunStepCompleted, step=place.step)
    outputs, following = {**place.outputs, place.step: result.output}, graph.after(place.step, result.edge)
    if following is None:
        await service.end(session, run.id, status="completed", output=outputs[graph.result])
        return None
    after = Place(following, place.position + 1, outputs)
    await begin(session, run, graph, after, fencing=fencing)
    return after


async def _row(session: AsyncSession, run: Run, place: Place) -> RunStep:
    return next(row for row in await repository.steps(session, run.id) if row.position == place.position)


def _hash(run: Run, step: str, outputs: Outputs) -> str:
    """Of everything that the step is given."""
    given = [run.agent, run.agent_version, step, run.input, outputs]
    return hashlib.sha256(orjson.dumps(given, option=orjson.OPT_SORT_KEYS)).hexdigest()
