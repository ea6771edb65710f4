"""One worker's turn at one run: its steps, in order, as far as they have not ended before.

Guarantees: what a step gives is stored in the transaction that ends it, with its events and the beginning of the next
step; a worker that takes over repeats only the step under way (`journal`). Nothing is written once the claim is lost
(`held_turn`). Whoever ends the run elsewhere, a client or a worker, is noticed within `LOOK_SECONDS`, and the step is
cancelled wherever it waits. The caller's access is asked for (`caller`) at the beginning of a step, and every
`CHECK_SECONDS` while one lasts; access removed ends the run.
Fails by: raising. What may pass (`shared.work_queue.AWAY`) has the run wait and continue; anything else as well, until
it has been tried too often.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.agents import journal
from services.indexing.agents.agent import Agent
from services.indexing.agents.budgets import RunBudget
from services.indexing.agents.caller import CHECK_SECONDS, AccessRemoved, Caller
from services.indexing.agents.catalogue import agent_named
from services.indexing.agents.contracts import BudgetExhausted, Exhausted
from services.indexing.agents.graph import RunFacts, StepContext, StepResult
from services.indexing.agents.held_turn import HeldTurn
from services.indexing.agents.journal import Place
from services.indexing.agents.knowledge import Knowledge
from services.indexing.agents.metrics import RunMetrics
from services.indexing.agents.runs import service
from services.indexing.agents.runs.models import Run, RunTurn
from services.indexing.agents.text_stream import TextStream
from services.indexing.agents.writing import Writing
from services.indexing.search.engine import SearchEngine
from shared.auth import principal_from
from shared.authority_client import Authority
from shared.errors import Forbidden, NotFound, QuarryError, RateLimited, Unavailable
from shared.events.indexing import RunStarted, RunStatus
from shared.failpoints import failpoint
from shared.telemetry import bind, get_logger, span
from shared.tenancy import Database
from shared.wakeups import Signal
from shared.work_queue import AWAY, ClaimLost

MOST_ATTEMPTS: Final = 8
"""Turns of a run; one more, and it has failed."""

LOOK_SECONDS: Final = 1.0
"""A claim is renewed this often, or more often where it is short."""

# Without a reply for this long, the caller's access counts as unknown, and the run waits.
_GRACE_SECONDS: Final = 30.0

IN_STEP = failpoint("run.in_step", "a step has done its work; nothing of it is stored")
AFTER_STEP = failpoint("run.after_step", "a step has ended and the next has begun, both stored")
AFTER_TEXT = failpoint("run.after_text", "some text of a step under way is stored and sent")

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Tools:
    """What runs are executed with. A run of a worker that died is taken over `claim_seconds` later, at most."""

    database: Database
    authority: Authority
    engine: SearchEngine
    writing: Writing
    metrics: RunMetrics
    claim_seconds: float


@dataclass(slots=True)
class _Began:
    """How far the run is; `until` is when its seconds are used up, by the clock of the event loop."""

    run: Run
    agent: Agent
    caller: Caller
    place: Place
    until: float


class Execution:
    """Of one run, for as long as its `turn` is claimed. `interrupt` has it look at once whether it still is."""

    def __init__(self, tools: Tools, turn: RunTurn) -> None:
        self._tools = tools
        self._turn = HeldTurn(tools.database, turn, claim_seconds=tools.claim_seconds)
        self._look_seconds = min(LOOK_SECONDS, tools.claim_seconds / 4)
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
            bind(project_id=began.run.project_id, run_id=began.run.id, request_id=self._turn.correlation_id),
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
        output = began.place.outputs.get(began.agent.graph.result)
        await self._end(began, status="incomplete", exhausted=budget, output=output)

    async def _end(self, began: _Began, *, status: RunStatus, **facts: Any) -> None:
        async with self._turn.transaction() as (session, run):
            await service.end(session, run.id, status=status, **facts)
        self._tell_end(began, status, **_loggable(facts))

    def _tell_end(self, began: _Began, status: RunStatus, **facts: Any) -> None:
        self._tools.metrics.ended(began.agent.name, status, began.run.created_at)
        _log.info("run_ended", agent=began.agent.name, status=status, **facts)

    # --- steps -------------------------------------------------------------------------------------------------------

    async def _begin(self) -> _Began | None:
        """Find where the run is, and begin its next step. None when there is nothing to execute."""
        async with self._turn.transaction() as (session, run):
            session.info["correlation_id"] = self._turn.correlation_id = run.correlation_id
            agent = agent_named(run.agent)
            if self._turn.attempts > MOST_ATTEMPTS or agent is None or agent.version != run.agent_version:
                reason = "The run failed repeatedly." if agent is not None else "There is no such agent any more."
                await service.end(session, run.id, status="failed", code="internal_error", reason=reason)
                return None
            with span("take run", parent=run.traceparent):
                return await self._resume(session, run, agent)

    async def _resume(self, session: AsyncSession, run: Run, agent: Agent) -> _Began:
        """Replay what has ended, and begin what comes next."""
        now, verified = datetime.now(UTC), False
        if run.status == "queued":
            run.status, run.started_at = "running", now
            service.tell(session, run, RunStarted, agent=agent.name, agent_version=agent.version)
            verified = (now - run.created_at).total_seconds() < CHECK_SECONDS
        place = await journal.replay(session, run, agent.graph)
        await journal.begin(session, run, agent.graph, place, fencing=self._turn.fencing)
        used = (now - (run.started_at or now)).total_seconds()
        caller = Caller(
            self._tools.database,
            self._tools.authority,
            self._tools.engine.directory,
            principal_from(run.principal),
            tenant_id=run.tenant_id,
            project_id=run.project_id,
            verified=verified,
        )
        return _Began(run, agent, caller, place, asyncio.get_running_loop().time() + run.seconds_limit - used)

    async def _steps(self, began: _Began) -> None:
        run, graph, caller = began.run, began.agent.graph, began.caller
        knowledge = Knowledge(
            self._tools.engine, lambda: caller.principal, tenant_id=run.tenant_id, project_id=run.project_id
        )
        budget = RunBudget(self._turn.transaction, until=began.until)
        facts = RunFacts(run.id, run.tenant_id, run.project_id, run.agent, run.input)
        following: Place | None = began.place
        while following is not None:
            began.place = following
            if caller.is_stale:
                await caller.check()
            with span(f"step {following.step}"), self._tools.metrics.step(following.step):
                async with TextStream(self._sending(following)) as text:
                    context = StepContext(
                        run=facts,
                        outputs=following.outputs,
                        knowledge=knowledge,
                        budget=budget,
                        writing=self._tools.writing,
                        add_text=text.add,
                    )
                    result = await graph.steps[following.step](context)
                await IN_STEP.reach()
                following = await self._complete(began, result, text.rest())
            await AFTER_STEP.reach()
        self._tell_end(began, "completed")

    async def _complete(self, began: _Began, result: StepResult, text: str) -> Place | None:
        """Store what the step has given, with the last of its text, and begin the next one; None once the run ended."""
        async with self._turn.transaction(result.documents) as (session, run):
            if text:
                await journal.add_text(session, run, began.place, text)
            return await journal.end(session, run, began.agent.graph, began.place, result, fencing=self._turn.fencing)

    def _sending(self, place: Place) -> Any:
        async def send(text: str) -> None:
            async with self._turn.transaction() as (session, run):
                await journal.add_text(session, run, place, text)
            await AFTER_TEXT.reach()

        return send

    # --- while it lasts ----------------------------------------------------------------------------------------------

    async def _watched(self, began: _Began) -> None:
        """The steps, cancelled as soon as the run is not this worker's, or its caller has no access any more."""
        working = asyncio.create_task(self._steps(began), name="run")
        watching = asyncio.create_task(self._watch(began.caller), name="run watch")
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

    async def _watch(self, caller: Caller) -> None:
        clock = asyncio.get_running_loop().time
        renewed = checked = proven = clock()
        while True:
            await self.interrupt.wait(self._look_seconds)
            try:
                await self._turn.renew()
                renewed = clock()
            except AWAY as error:
                _log.warning("run_not_renewed", reason=str(error)[:200])
                if clock() - renewed > self._turn.claim_seconds - self._look_seconds:
                    raise ClaimLost from error
            if clock() - checked < CHECK_SECONDS:
                continue
            checked = clock()
            try:
                await caller.check()
                proven = clock()
            except (Unavailable, SQLAlchemyError, OSError) as error:
                _log.warning("access_not_checked", reason=str(error)[:200])
                if clock() - proven > _GRACE_SECONDS:
                    raise


def _loggable(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in ("exhausted", "code") if name in facts}
