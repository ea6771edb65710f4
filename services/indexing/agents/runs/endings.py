"""Waiting until a run has ended: woken by a worker in this process, found by looking when it is elsewhere."""

import asyncio
import uuid
from typing import Final

from services.indexing.agents.runs import repository
from services.indexing.agents.runs.models import UNFINISHED
from shared.tenancy import Database

_FIRST_LOOK: Final = 0.2
_MOST_BETWEEN_LOOKS: Final = 1.0


class Endings:
    """Who waits in this process, by run."""

    def __init__(self) -> None:
        self._waiting: dict[uuid.UUID, set[asyncio.Event]] = {}

    def tell(self, run_id: uuid.UUID) -> None:
        """A worker here is done with the run, for now or for good."""
        for event in self._waiting.get(run_id, ()):
            event.set()

    async def wait(self, database: Database, *, tenant_id: uuid.UUID, run_id: uuid.UUID, seconds: float) -> bool:
        """Wait until the run has ended or is gone, at most `seconds`; whether it has."""
        event = asyncio.Event()
        waiting = self._waiting.setdefault(run_id, set())
        waiting.add(event)
        try:
            return await self._wait(database, tenant_id, run_id, event, seconds)
        finally:
            waiting.discard(event)
            if not waiting:
                self._waiting.pop(run_id, None)

    async def _wait(
        self, database: Database, tenant_id: uuid.UUID, run_id: uuid.UUID, event: asyncio.Event, seconds: float
    ) -> bool:
        clock = asyncio.get_running_loop().time
        until, pause = clock() + seconds, _FIRST_LOOK
        while (left := until - clock()) > 0:
            try:
                async with asyncio.timeout(min(pause, left)):
                    await event.wait()
                event.clear()
            except TimeoutError:
                pause = min(_MOST_BETWEEN_LOOKS, 2 * pause)
            async with database.tenant(tenant_id) as session:
                if await repository.status(session, run_id) not in UNFINISHED:
                    return True
        return False
