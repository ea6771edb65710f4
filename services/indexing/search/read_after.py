"""Searches that wait until their client's own upload, change or deletion is what search sees.

Guarantees: a search that waits is woken when its document changes, in whichever process, and goes on at the latest at
its deadline. Of a document that is in another project or of another tenant it learns what it learns of one that does
not exist: nothing, until the deadline.
Shared: places to wait, in this process: `EACH` of a tenant, `IN_ALL` of all; beyond, a search is refused at once.
"""

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Final

from services.indexing.documents import arrivals
from services.indexing.documents.arrivals import State
from services.indexing.search.errors import TooManySearches
from shared import notifications
from shared.errors import Unavailable
from shared.tenancy import Database

SECONDS: Final = 5.0
"""How long a search waits."""

EACH: Final = 16
IN_ALL: Final = 1_024


class Waiting:
    """One for a process; `run` must be running."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[uuid.UUID, set[asyncio.Event]] = {}
        self._held: Counter[uuid.UUID] = Counter()

    async def run(self) -> None:
        """Hear of changes until cancelled."""
        await notifications.hear(self._database.engines.leases, arrivals.CHANNEL, self._on_notification)

    def _on_notification(self, payload: str) -> None:
        """An empty payload: some may have been missed."""
        told = self._waiting.values() if not payload else [self._waiting.get(uuid.UUID(payload), set())]
        for events in told:
            for event in events:
                event.set()

    async def until_searchable(
        self, tenant_id: uuid.UUID, project_id: uuid.UUID, document_id: uuid.UUID, version: int | None, *, until: float
    ) -> State:
        """How it is, once it is not `awaited` any more or the time of the event loop is `until`.

        Raises:
            TooManySearches: the tenant has as many waiting as it may.
            Unavailable: all tenants have.
        """
        with self._registered(tenant_id, document_id) as told:
            while True:
                told.clear()
                async with self._database.tenant(tenant_id) as session:
                    state = await arrivals.state_of(
                        session, project_id=project_id, document_id=document_id, version=version
                    )
                if state != "awaited":
                    return state
                try:
                    async with asyncio.timeout_at(until):
                        await told.wait()
                except TimeoutError:
                    return state

    @contextlib.contextmanager
    def _registered(self, tenant_id: uuid.UUID, document_id: uuid.UUID) -> Iterator[asyncio.Event]:
        if self._held[tenant_id] >= EACH:
            raise TooManySearches(retry_after=1)
        if self._held.total() >= IN_ALL:
            raise Unavailable("Too many searches wait for uploads; search without read_after.", retry_after=1)
        event = asyncio.Event()
        self._held[tenant_id] += 1
        self._waiting.setdefault(document_id, set()).add(event)
        try:
            yield event
        finally:
            self._waiting[document_id].discard(event)
            if not self._waiting[document_id]:
                del self._waiting[document_id]
            self._held[tenant_id] -= 1
            if not self._held[tenant_id]:
                del self._held[tenant_id]
