"""One worker's hold on the turn of a run: each of its transactions about the run goes through here.

Guarantees: nothing is written once the claim is lost, since every transaction locks the turn by the claim it was given,
and the run after it.
Fails by: raising `ClaimLost`.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.agents.runs import repository
from services.indexing.agents.runs.models import UNFINISHED, Run, RunTurn
from services.indexing.agents.runs.turns import QUEUE
from shared.errors import Unavailable
from shared.tenancy import Database
from shared.work_queue import ClaimLost


class HeldTurn:
    """Of a claim that lasts `claim_seconds` from each renewal. `correlation_id` is that of the request that started the
    run, once this is known."""

    def __init__(self, database: Database, turn: RunTurn, *, claim_seconds: float) -> None:
        self._database = database
        self._turn = turn
        # Renewing a claim changes what a transaction locks it by.
        self._lock = asyncio.Lock()
        self.claim_seconds = claim_seconds
        self.correlation_id: str | None = None

    @property
    def attempts(self) -> int:
        """How often the turn was claimed."""
        return self._turn.attempts

    @property
    def fencing(self) -> datetime:
        """The end of the claim."""
        return self._turn.due_at

    async def renew(self) -> None:
        """Begin the claim anew.

        Raises:
            ClaimLost: it is not this worker's any more.
        """
        async with self._lock, self._database.system() as session:
            await QUEUE.renew(session, self._turn, lasting=timedelta(seconds=self.claim_seconds))

    @asynccontextmanager
    async def transaction(self, documents: Collection[uuid.UUID] = ()) -> AsyncIterator[tuple[AsyncSession, Run]]:
        """One in which the run is locked, and this worker's.

        Args:
            documents: locked before it, so that they are not deleted unless their runs are found.

        Raises:
            ClaimLost: it is not this worker's any more.
            Unavailable: one of the documents is deleted; the step has to be repeated.
        """
        async with self._lock, self._database.tenant(self._turn.tenant_id) as session:
            session.info["correlation_id"] = self.correlation_id
            if not await repository.keep_documents(session, documents):
                raise Unavailable("A document was deleted meanwhile.")
            await QUEUE.held(session, self._turn)
            run = await repository.locked(session, self._turn.run_id)
            if run is None or run.status not in UNFINISHED:
                raise ClaimLost
            yield session, run
