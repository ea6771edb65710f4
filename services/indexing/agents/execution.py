"""One worker's turn at one run: its steps, in order, as far as they have not ended before.

Guarantees: what a step gives is stored in the transaction that ends it, with its events and the beginning of the next
step; a worker that takes over repeats only the step under way. Text that an attempt had sent before is taken back first
(`RunAnswerRestarted`). Nothing is written once the claim is lost: each transaction locks the run's turn. Whoever ends
the run elsewhere, a client or a worker, is noticed within `_LOOK_SECONDS`, and the step is cancelled wherever it waits.
The caller's access is asked for at identity and of the project's owner at the beginning of a step, and every
`_CHECK_SECONDS` while one lasts; access removed ends the run.
Fails by: raising. What may pass (`shared.work_queue.AWAY`) has the run wait and continue; anything else as well, until
it has been tried too often.
"""

import asyncio
import hashlib
import math
import uuid
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.agents.agent import Agent
from services.indexing.agents.budgets import RunBudget
from services.indexing.agents.catalogue import agent_named
from services.indexing.agents.contracts import BudgetExhausted, Exhausted
from services.indexing.agents.graph import RunFacts, StepContext, StepResult
from services.indexing.agents.knowledge import Knowledge
from services.indexing.agents.runs import repository, service
from services.indexing.agents.runs.models import UNFINISHED, Run, RunStep, RunTurn
from services.indexing.agents.runs.turns import CLAIM_SECONDS, QUEUE
from services.indexing.agents.text_stream import TextStream
from services.indexing.agents.writing import Writing
from services.indexing.search.service import SearchEngine
from shared.auth import Principal, Scope, principal_from
from shared.authority_client import Authority
from shared.errors import Forbidden, NotFound, QuarryError, RateLimited, Unauthenticated, Unavailable
from shared.events.indexing import (
    RunAnswerRestarted,
    RunStarted,
    RunStatus,
    RunStepCompleted,
    RunStepStarted,
    RunTextAdded,
)
from shared.failpoints import failpoint
from shared.telemetry import bind, get_logger, span
from shared.tenancy import Database
from shared.wakeups import Signal
from shared.work_queue import AWAY, ClaimLost

MOST_ATTEMPTS: Final = 8
"""Turns of a run; one more, and it has failed."""

_LOOK_SECONDS: Final = 1.0
_CHECK_SECONDS: Final = 2.0
# Without a reply for this long, the caller's access counts as unknown, and the run waits.
_GRACE_SECONDS: Final = 30.0

IN_STEP = failpoint("run.in_step", "a step has done its work; nothing of it is stored")
AFTER_STEP = failpoint("run.after_step", "a step has ended and the next has begun, both stored")
AFTER_TEXT = failpoint("run.after_text", "some text of a step under way is stored and sent")

_log = get_logger(__name__)


class AccessRemoved(Exception):
    """The caller may not search the project any more."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What runs are executed with."""

    database: Database
    authority: Authority
    engine: SearchEngine
    writing: Writing


@dataclass(slots=True)
class _Began:
    """How far the run is: the step under way, its place in the journal, and what the steps before it gave.

    until: when its seconds are used up, by the clock of the event loop; checked_at: when `principal` was last checked.
    """

    run: Run
    agent: Agent
    principal: Principal
    step: str
    position: int
    outputs: dict[str, dict[str, Any]]
    until: float
    checked_at: float


class Execution:
    """Of one run, for as long as its `turn` is claimed. `interrupt` has it look at once whether it still is."""

    def __init__(self, tools: Tools, turn: RunTurn) -> None:
        self._tools = tools
        self._turn = turn
        # Renewing a claim changes what a transaction locks it by.
        self._lock = asyncio.Lock()
        self._correlation_id: str | None = None
        self.interrupt = Signal()

    async def run(self) -> None:
        """Execute the run to its end.

        Raises:
            ClaimLost: the run was ended or taken over elsewhere.
            AWAY: a service or a store cannot be reached; the run waits.
        """
        began = await self._begin()
        if began is None:
            return
        with (
            bind(project_id=began.run.project_id, run_id=began.run.id, request_id=self._correlation_id),
            span(
                f"invoke_agent {began.agent.name}",
                parent=began.run.traceparent,
                attributes={
                    "gen_ai.operation.name": "invoke_agent",
                    "gen_ai.agent.name": began.agent.name,
                    "gen_ai.agent.version": str(began.agent.version),
                },
            ),
        ):
            await self._ending(began)

    async def _ending(self, began: _Began) -> None:
        """The steps, and the end of the run where they cannot go on."""
        try:
            left = began.until - asyncio.get_running_loop().time()
            async with asyncio.timeout(max(0.0, left)) as limit:
                await self._watched(began)
        except TimeoutError:
            if not limit.expired():
                raise
            await self._exhausted(began, "seconds")
        except BudgetExhausted as error:
            await self._exhausted(began, error.budget)
        except (AccessRemoved, NotFound, Forbidden):
            _log.info("run_access_removed")
            await self._end(began, **service.ACCESS_REMOVED)
        except (RateLimited, Unavailable) as error:
            if self._turn.attempts < MOST_ATTEMPTS:
                raise Unavailable(str(error), retry_after=error.retry_after) from error
            await self._failed(began, error)
        except QuarryError as error:
            await self._failed(began, error)

    async def _failed(self, began: _Began, error: QuarryError) -> None:
        _log.warning("run_failed", code=error.code, exc_info=error if error.status == 500 else None)
        await self._end(began, status="failed", code=error.code, reason=error.public_detail)

    async def _exhausted(self, began: _Began, budget: Exhausted) -> None:
        output = began.outputs.get(began.agent.graph.result)
        await self._end(began, status="incomplete", exhausted=budget, output=output)

    async def _end(self, began: _Began, *, status: RunStatus, **facts: Any) -> None:
        async with self._transaction() as (session, run):
            await service.end(session, run.id, status=status, **facts)
        _log.info("run_ended", agent=began.agent.name, status=status, **_loggable(facts))

    # --- steps -------------------------------------------------------------------------------------------------------

    async def _begin(self) -> _Began | None:
        """Find where the run is, and begin its next step. None when there is nothing to execute."""
        async with self._tools.database.tenant(self._turn.tenant_id) as session:
            await QUEUE.held(session, self._turn)
            run = await repository.locked(session, self._turn.run_id)
            if run is None or run.status not in UNFINISHED:
                return None
            agent = agent_named(run.agent)
            if self._turn.attempts > MOST_ATTEMPTS or agent is None or agent.version != run.agent_version:
                reason = "The run failed repeatedly." if agent is not None else "There is no such agent any more."
                await service.end(session, run.id, status="failed", code="internal_error", reason=reason)
                return None
            session.info["correlation_id"] = self._correlation_id = run.correlation_id
            with span("take run", parent=run.traceparent):
                return await self._resume(session, run, agent)

    async def _resume(self, session: AsyncSession, run: Run, agent: Agent) -> _Began:
        """Replay what has ended, and begin what comes next."""
        now, clock = datetime.now(UTC), asyncio.get_running_loop().time()
        checked_at = -math.inf
        if run.status == "queued":
            run.status, run.started_at = "running", now
            service.tell(session, run, RunStarted, agent=agent.name, agent_version=agent.version)
            # The token with which the run was started has just been checked.
            if (now - run.created_at).total_seconds() < _CHECK_SECONDS:
                checked_at = clock
        step, position, outputs = agent.graph.first, 0, dict[str, dict[str, Any]]()
        for row in await repository.steps(session, run.id):
            if row.ended_at is None or row.step != step or row.input_hash != _hash(run, step, outputs):
                break
            outputs[step], following = row.output or {}, agent.graph.after(step, row.edge or "")
            position += 1
            assert following is not None  # noqa: S101  # the last step ends the run in its own transaction
            step = following
        await self._begin_step(session, run, agent, step, position, outputs)
        until = clock + run.seconds_limit - (now - (run.started_at or now)).total_seconds()
        return _Began(run, agent, principal_from(run.principal), step, position, outputs, until, checked_at)

    async def _begin_step(
        self,
        session: AsyncSession,
        run: Run,
        agent: Agent,
        step: str,
        position: int,
        outputs: Mapping[str, Mapping[str, Any]],
    ) -> None:
        steps = await repository.steps(session, run.id)
        row = next((row for row in steps if row.position == position), None)
        now, given = datetime.now(UTC), _hash(run, step, outputs)
        if row is None:
            row = RunStep(run_id=run.id, position=position, step=step, attempt=1, input_hash=given, started_at=now)
            row.fencing = self._turn.due_at
            session.add(row)
            if step in agent.graph.rewrites and any(earlier.streamed for earlier in steps):
                service.tell(session, run, RunAnswerRestarted, reason="repair")
            service.tell(session, run, RunStepStarted, step=step)
            return
        if row.streamed:
            service.tell(session, run, RunAnswerRestarted, reason="takeover")
        row.step, row.attempt, row.input_hash, row.streamed = step, row.attempt + 1, given, False
        row.output = row.edge = row.usage = row.ended_at = None
        row.fencing = self._turn.due_at

    async def _steps(self, began: _Began) -> None:
        run, graph = began.run, began.agent.graph
        knowledge = Knowledge(
            self._tools.engine, lambda: began.principal, tenant_id=run.tenant_id, project_id=run.project_id
        )
        budget = RunBudget(self._transaction, until=began.until)
        facts = RunFacts(run.id, run.tenant_id, run.project_id, run.agent, run.input)
        step: str | None = began.step
        while step is not None:
            if asyncio.get_running_loop().time() - began.checked_at > _CHECK_SECONDS:
                await self._check_access(began)
            with span(f"step {step}"):
                async with TextStream(self._sending(began)) as text:
                    context = StepContext(
                        run=facts,
                        outputs=began.outputs,
                        knowledge=knowledge,
                        budget=budget,
                        writing=self._tools.writing,
                        add_text=text.add,
                    )
                    result = await graph.steps[step](context)
                await IN_STEP.reach()
                step = await self._complete(began, step, result, text.rest())
            await AFTER_STEP.reach()

    async def _complete(self, began: _Began, step: str, result: StepResult, text: str) -> str | None:
        """Store what the step has given, and begin the next one; returns that, or None once the run has ended."""
        graph = began.agent.graph
        following = graph.after(step, result.edge)
        outputs = {**began.outputs, step: result.output}
        async with self._transaction(result.documents) as (session, run):
            row = await self._row(session, run, began.position)
            if text:
                row.streamed = True
                service.tell(session, run, RunTextAdded, text=text)
            if result.documents:
                await repository.add_documents(session, run.id, result.documents)
            row.output, row.edge, row.ended_at = result.output, result.edge, datetime.now(UTC)
            row.usage = None if result.usage is None else result.usage.model_dump(mode="json")
            row.fencing = self._turn.due_at
            for event, fields in result.events:
                service.tell(session, run, event, **fields)
            service.tell(session, run, RunStepCompleted, step=step)
            if following is None:
                await service.end(session, run.id, status="completed", output=outputs[graph.result])
            else:
                await self._begin_step(session, run, began.agent, following, began.position + 1, outputs)
        began.outputs, began.position = outputs, began.position + 1
        if following is None:
            _log.info("run_ended", agent=began.agent.name, status="completed")
        return following

    def _sending(self, began: _Began) -> Any:
        async def send(text: str) -> None:
            async with self._transaction() as (session, run):
                row = await self._row(session, run, began.position)
                row.streamed = True
                service.tell(session, run, RunTextAdded, text=text)
            await AFTER_TEXT.reach()

        return send

    async def _row(self, session: AsyncSession, run: Run, position: int) -> RunStep:
        return next(row for row in await repository.steps(session, run.id) if row.position == position)

    @asynccontextmanager
    async def _transaction(self, documents: Collection[uuid.UUID] = ()) -> AsyncIterator[tuple[AsyncSession, Run]]:
        """One in which the run is locked, and this worker's.

        Args:
            documents: locked before it, so that they are not deleted unless their runs are found.

        Raises:
            ClaimLost: it is not this worker's any more.
            Unavailable: one of the documents is deleted; the step has to be repeated.
        """
        async with self._lock, self._tools.database.tenant(self._turn.tenant_id) as session:
            session.info["correlation_id"] = self._correlation_id
            if not await repository.keep_documents(session, documents):
                raise Unavailable("A document was deleted meanwhile.")
            await QUEUE.held(session, self._turn)
            run = await repository.locked(session, self._turn.run_id)
            if run is None or run.status not in UNFINISHED:
                raise ClaimLost
            yield session, run

    # --- while it lasts ----------------------------------------------------------------------------------------------

    async def _watched(self, began: _Began) -> None:
        """The steps, cancelled as soon as the run is not this worker's, or its caller has no access any more."""
        working = asyncio.create_task(self._steps(began), name="run")
        watching = asyncio.create_task(self._watch(began), name="run watch")
        try:
            done, _ = await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, watching):
                task.cancel()
            await asyncio.wait({working, watching})
        if working in done:
            working.result()
        else:
            watching.result()

    async def _watch(self, began: _Began) -> None:
        clock = asyncio.get_running_loop().time
        renewed = checked = proven = clock()
        while True:
            await self.interrupt.wait(_LOOK_SECONDS)
            try:
                async with self._lock, self._tools.database.system() as session:
                    await QUEUE.renew(session, self._turn)
                renewed = clock()
            except AWAY as error:
                _log.warning("run_not_renewed", reason=str(error)[:200])
                if clock() - renewed > CLAIM_SECONDS - _LOOK_SECONDS:
                    raise ClaimLost from error
            if clock() - checked < _CHECK_SECONDS:
                continue
            checked = clock()
            try:
                await self._check_access(began)
                proven = clock()
            except (Unavailable, SQLAlchemyError, OSError) as error:
                _log.warning("access_not_checked", reason=str(error)[:200])
                if clock() - proven > _GRACE_SECONDS:
                    raise

    async def _check_access(self, began: _Began) -> None:
        """Ask what the caller may do now.

        Raises:
            AccessRemoved: not search this project.
            Unavailable: it cannot be told.
        """
        tools, run = self._tools, began.run
        directory, known = tools.engine.directory, {"tenant_id": run.tenant_id, "project_id": run.project_id}
        try:
            principal = await tools.authority.now(began.principal)
            await directory.ensure_known(tools.database, principal, **known)
            async with tools.database.tenant(run.tenant_id) as session:
                await directory.require(session, principal, project_id=run.project_id, scope=Scope.SEARCH)
        except (Unauthenticated, NotFound, Forbidden) as error:
            raise AccessRemoved from error
        began.principal, began.checked_at = principal, asyncio.get_running_loop().time()


def _hash(run: Run, step: str, outputs: Mapping[str, Mapping[str, Any]]) -> str:
    """Of everything that the step is given."""
    given = [run.agent, run.agent_version, step, run.input, outputs]
    return hashlib.sha256(orjson.dumps(given, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _loggable(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in ("exhausted", "code") if name in facts}
