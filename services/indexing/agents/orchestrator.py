"""Workers for runs: claims turns (`agents.runs.turns`) and executes them, a number of them side by side.

Runs mostly wait, for search, for Postgres or for a model, so many share a process. A tenant may hold half of the places
at most. A run that has ended has one more turn, in which it is forgotten.
"""

import asyncio
import uuid
from collections import Counter
from contextlib import suppress
from typing import Final

from services.indexing.agents.execution import Execution, Tools
from services.indexing.agents.runs import service
from services.indexing.agents.runs.endings import Endings
from services.indexing.agents.runs.models import RunTurn
from services.indexing.agents.runs.turns import QUEUE, claim
from shared.telemetry import bind
from shared.wakeups import Signal
from shared.work_queue import AWAY, keep_working

POLL_SECONDS: Final = 0.5


class Orchestrator:
    """Runs until cancelled. `wake()` makes it look for runs at once, `interrupt()` whether those it has were ended."""

    def __init__(self, tools: Tools, endings: Endings, *, concurrency: int) -> None:
        self._tools = tools
        self._endings = endings
        self._concurrency = concurrency
        self._at_work: dict[asyncio.Task[None], RunTurn] = {}
        self._executions: set[Execution] = set()
        self.wake = Signal()

    def interrupt(self) -> None:
        for execution in self._executions:
            execution.interrupt()

    @property
    def busy(self) -> int:
        """Runs under way."""
        return len(self._at_work)

    async def run(self) -> None:
        try:
            await keep_working(self._begin_next, name="runs", poll_seconds=POLL_SECONDS, wake=self.wake)
        finally:
            tasks = list(self._at_work)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin_next(self) -> bool:
        if len(self._at_work) >= self._concurrency:
            return False
        async with self._tools.database.system() as session:
            turn = await claim(session, full=self._full(), seconds=self._tools.claim_seconds)
        if turn is None:
            return False
        task = asyncio.create_task(self._take(turn), name="turn of a run")
        self._at_work[task] = turn
        task.add_done_callback(self._leave)
        return True

    def _full(self) -> list[uuid.UUID]:
        """Tenants that hold their share of the places."""
        share = max(1, self._concurrency // 2)
        held = Counter(turn.tenant_id for turn in self._at_work.values() if not turn.ended)
        return [tenant_id for tenant_id, places in held.items() if places >= share]

    def _leave(self, task: "asyncio.Task[None]") -> None:
        turn = self._at_work.pop(task)
        self._endings.tell(turn.run_id)
        self.wake()

    async def _take(self, turn: RunTurn) -> None:
        # What cannot be reached for one run may be there for the others.
        with suppress(*AWAY), bind(tenant_id=turn.tenant_id, run_id=turn.run_id):
            await QUEUE.work_on(self._tools.database, turn, self._forget if turn.ended else self._execute)

    async def _execute(self, turn: RunTurn) -> None:
        execution = Execution(self._tools, turn)
        self._executions.add(execution)
        try:
            await execution.run()
        finally:
            self._executions.discard(execution)

    async def _forget(self, turn: RunTurn) -> None:
        async with self._tools.database.tenant(turn.tenant_id) as session:
            await QUEUE.held(session, turn)
            await service.forget(session, turn.run_id)
