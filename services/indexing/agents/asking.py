"""Starting a run and waiting for it: what every door to agents (HTTP, MCP) calls.

A run is started in a transaction of its own and executed by a worker, here or elsewhere; whoever waits for it holds
neither a transaction nor a lock, and the run goes on when the wait ends.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from services.indexing.agents.catalogue import agent_named
from services.indexing.agents.runs import service
from services.indexing.agents.runs.endings import Endings
from services.indexing.agents.runs.errors import AgentNotFound, ModelRequired
from services.indexing.agents.runs.models import UNFINISHED
from services.indexing.agents.runs.schemas import AskRequest, RunDetail, RunRequest
from shared.auth import Principal
from shared.project_access import ProjectDirectory
from shared.tenancy import Database, after_commit
from shared.transactions import TenantTransactions

WAIT_SECONDS: Final = 25.0
"""How long a request waits for its run: less than the gateway waits for a response."""

_LOOK_SECONDS: Final = 0.5

Gone = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Runs:
    """What starting and following runs takes. `wake` has workers of this process look for runs, `interrupt` whether
    those they have were ended; `model` names the model that writes, if there is one."""

    database: Database
    directory: ProjectDirectory
    endings: Endings
    wake: Callable[[], None]
    interrupt: Callable[[], None]
    model: str | None


async def ask(
    runs: Runs, transactions: TenantTransactions, principal: Principal, *, project_id: uuid.UUID, request: AskRequest
) -> RunDetail:
    """A question and its answer: a run of `answer`, once it has ended, or as it is after `WAIT_SECONDS`.

    Raises:
        As `start`.
    """
    run_id = await start(runs, transactions, principal, project_id=project_id, request=request.run())
    return await ended(runs, transactions, principal, project_id=project_id, run_id=run_id)


async def start(
    runs: Runs, transactions: TenantTransactions, principal: Principal, *, project_id: uuid.UUID, request: RunRequest
) -> uuid.UUID:
    """Start a run on behalf of the caller; its id.

    Raises:
        AgentNotFound, ModelRequired: there is no such agent, or no model for it.
        NotFound, Forbidden, InvalidInput, TooManyRuns: see `service.create`.
        Unavailable: the caller's access cannot be told now.
    """
    await runs.directory.ensure_known(runs.database, principal, tenant_id=transactions.tenant_id, project_id=project_id)
    agent = agent_named(request.agent)
    async with transactions.begin() as session:
        if agent is None:
            raise AgentNotFound
        if agent.needs_model and runs.model is None:
            raise ModelRequired
        run = await service.create(session, principal, runs.directory, agent, project_id=project_id, request=request)
        after_commit(session, runs.wake)
    return run.id


async def ended(
    runs: Runs,
    transactions: TenantTransactions,
    principal: Principal,
    *,
    project_id: uuid.UUID,
    run_id: uuid.UUID,
    gone: Gone | None = None,
) -> RunDetail:
    """The run once it has ended, or as it is after `WAIT_SECONDS`, or when whoever waits is `gone`: then a run that
    asks for it is cancelled.

    Raises:
        RunNotFound: it was deleted meanwhile.
        NotFound, Forbidden: see `ProjectDirectory.require`.
    """
    waiting = asyncio.create_task(
        runs.endings.wait(runs.database, tenant_id=transactions.tenant_id, run_id=run_id, seconds=WAIT_SECONDS)
    )
    try:
        while not (await asyncio.wait({waiting}, timeout=_LOOK_SECONDS))[0]:
            if gone is not None and await gone():
                await left(runs, transactions, project_id=project_id, run_id=run_id, user_id=principal.user_id)
                break
    finally:
        waiting.cancel()
    async with transactions.begin() as session:
        return await service.read(session, principal, runs.directory, project_id=project_id, run_id=run_id)


async def left(
    runs: Runs,
    transactions: TenantTransactions,
    *,
    project_id: uuid.UUID,
    run_id: uuid.UUID,
    user_id: uuid.UUID | None,
) -> None:
    """Whoever followed the run has gone: it is cancelled if it is theirs and asks for that."""
    async with transactions.begin() as session:
        await service.leave(session, project_id=project_id, run_id=run_id, user_id=user_id)
        after_commit(session, runs.interrupt)


def is_unfinished(run: RunDetail) -> bool:
    return run.status in UNFINISHED
