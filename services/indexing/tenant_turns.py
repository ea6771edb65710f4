"""Work that waits in a queue of all tenants, and that no user waits for: tenants take turns.

Guarantees: one turn of a tenant at a time in each process, and `tenants_at_once` turns in all. A turn that waits, fails
or hangs does not delay those of other tenants. One look at the index for each claim, however long the queue is.
Does not guarantee: an order among the rows of a tenant. Each turn is to be short and to make its row due again if there
is more to do; what a row needs is up to `work` (`shared.work_queue`).
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import ARRAY, Uuid, and_, bindparam, func
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from shared.telemetry import bind
from shared.tenancy import Database
from shared.wakeups import Signal
from shared.work_queue import AWAY, Retry, WorkQueue, keep_working

POLL_SECONDS: Final = 1.0
TURN_SECONDS: Final = 20.0
"""After which a turn is to have ended by itself: its claim ends soon after."""

_CLAIM: Final = timedelta(seconds=TURN_SECONDS + 4)

Item = TypeVar("Item", bound=Any)


def queue_by_tenant(
    table: type[Item],
    *,
    tenant_id: InstrumentedAttribute[uuid.UUID],
    due_at: InstrumentedAttribute[Any],
    attempts: InstrumentedAttribute[int],
    retry: Retry,
) -> WorkQueue[Item]:
    """A queue whose claims name the tenant after which to look, and tenants to leave out."""
    return WorkQueue(
        table,
        due_at=due_at,
        claim=_CLAIM,
        attempts=attempts,
        retry=retry,
        due=and_(
            tenant_id > bindparam("after", type_=Uuid()),
            tenant_id != func.all(bindparam("excluded", type_=ARRAY(Uuid()))),
            due_at <= func.now(),
        ),
        order=(tenant_id, due_at),
    )


async def claim(
    session: AsyncSession, queue: WorkQueue[Item], *, after: uuid.UUID, but: Collection[uuid.UUID]
) -> Item | None:
    """The row of the next tenant, round robin by id, that has waited longest."""
    for first in (after, uuid.UUID(int=0)):
        item = await queue.claim(session, after=first, excluded=list(but))
        if item is not None:
            return item
    return None


class TenantTurns(Generic[Item]):
    """Runs until cancelled. `wake()` makes it look at once instead of at the next poll.

    Args:
        work: does one turn of a claimed row.
    """

    def __init__(
        self,
        database: Database,
        queue: WorkQueue[Item],
        work: Callable[[Item], Awaitable[None]],
        *,
        name: str,
        tenants_at_once: int,
    ) -> None:
        self._database = database
        self._queue = queue
        self._work = work
        self._name = name
        self._most = tenants_at_once
        self._at_work: dict[uuid.UUID, asyncio.Task[None]] = {}
        self._last = uuid.UUID(int=0)
        self.wake = Signal()

    async def run(self) -> None:
        try:
            await keep_working(self._begin_next, name=self._name, poll_seconds=POLL_SECONDS, wake=self.wake)
        finally:
            tasks = list(self._at_work.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin_next(self) -> bool:
        """Start a turn of the next tenant that has none at the moment; False when nothing is due or all are busy."""
        if len(self._at_work) == self._most:
            return False
        async with self._database.system() as session:
            item = await claim(session, self._queue, after=self._last, but=self._at_work.keys())
        if item is None:
            return False
        self._last = item.tenant_id
        self._at_work[item.tenant_id] = asyncio.create_task(self._turn(item))
        return True

    async def _turn(self, item: Item) -> None:
        try:
            # Only this tenant waits: what cannot be reached for one may be there for the others.
            with suppress(*AWAY), bind(tenant_id=item.tenant_id, document_id=getattr(item, "document_id", None)):
                await self._queue.work_on(self._database, item, self._work)
        finally:
            del self._at_work[item.tenant_id]
            self.wake()
