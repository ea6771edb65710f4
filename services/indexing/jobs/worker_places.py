"""The places of a worker: some for short jobs, and others for those found to take long.

A job begins in a short place, unless its document is large, because its duration is not known yet. Once it is found to
take long it moves to a long place or, when none is free for its tenant, goes back to the queue, to be taken into a long
place later. So a short place is soon free again, whatever documents other tenants send, and however many tenants do.
Long jobs of several tenants take turns of `_TURN_SECONDS`, as far as what they have done can be kept.

Short jobs are urgent, except those of tenants that had a long job lately: a long job goes on with its next step when
no urgent job is under way, or when it has waited long enough.

A tenant never has the last place of either kind, unless there is only one. Jobs of tenants that had a long one lately
are likely to take long as well: all those tenants together have a quarter as many places as there are short ones, on
top of these. Short places they held before are free to others at once, but with never more than twice as many jobs.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from services.indexing.expiring_set import ExpiringSet
from services.indexing.jobs.errors import GaveWay
from services.indexing.jobs.leases import Lease, long_ones_wait
from services.indexing.work_priority import BackgroundWork, UrgentWork
from shared.tenancy import Database
from shared.wakeups import Signal

# Resuming such a job reads all of its chunks, so turns are long.
_TURN_SECONDS: Final = 10.0


@dataclass(slots=True)
class Places:
    """How many jobs of either kind a worker works on at a time, and which it works on now."""

    short: int
    long: int
    urgent: UrgentWork = field(default_factory=UrgentWork)
    held: dict[tuple[uuid.UUID, int], Lease] = field(default_factory=dict)
    took_long: ExpiringSet[uuid.UUID] = field(default_factory=ExpiringSet)
    long_steps: BackgroundWork = field(init=False)
    _urgent_ones: set[tuple[uuid.UUID, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.long_steps = BackgroundWork(self.urgent)

    def take(self, lease: Lease) -> None:
        self.held[lease.job_id, lease.token] = lease
        if not lease.long_running and lease.tenant_id not in self.took_long:
            self._urgent_ones.add((lease.job_id, lease.token))
            self.urgent.begin()

    def leave(self, lease: Lease) -> None:
        del self.held[lease.job_id, lease.token]
        self._not_urgent(lease)

    def free(self) -> list[bool]:
        """The kinds of job that have a free place: False for short ones, True for long ones."""
        free = [True] if len(self._leases(True)) < self.long else []
        held, slow = self._leases(False), self._slow()
        others = sum(lease.tenant_id not in slow for lease in held)
        return [False, *free] if others < self.short and len(held) < 2 * self.short else free

    def full(self, long: bool) -> set[uuid.UUID]:
        """Tenants that may not have another place of that kind."""
        size = self.long if long else self.short
        held = Counter(lease.tenant_id for lease in self._leases(long))
        full = {tenant_id for tenant_id, places in held.items() if places >= max(1, size - 1)} if size > 1 else set()
        if not long:
            slow = self._slow()
            if sum(held[tenant_id] for tenant_id in slow) >= max(1, self.short // 4):
                full |= slow
        return full

    def move(self, lease: Lease) -> None:
        """The job has been found to take long: it goes on in a long place.

        Raises:
            GaveWay: its tenant can have none now.
        """
        self.took_long.note(lease.tenant_id)
        if not lease.long_running:
            if True not in self.free() or lease.tenant_id in self.full(True):
                raise GaveWay
            lease.long_running = True
            self._not_urgent(lease)

    def _not_urgent(self, lease: Lease) -> None:
        key = lease.job_id, lease.token
        if key in self._urgent_ones:
            self._urgent_ones.remove(key)
            self.urgent.end()

    def _slow(self) -> set[uuid.UUID]:
        return {*self.took_long, *(lease.tenant_id for lease in self._leases(True))}

    def _leases(self, long: bool) -> Collection[Lease]:
        return [lease for lease in self.held.values() if lease.long_running is long]


class Share:
    """One job's share of its worker's places. `wake` is called when it frees a place for others."""

    def __init__(self, places: Places, lease: Lease, database: Database, wake: Signal) -> None:
        self._places = places
        self._lease = lease
        self._database = database
        self._wake = wake
        self._turn_ends = asyncio.get_running_loop().time() + _TURN_SECONDS

    def takes_long(self) -> None:
        """The job has been found to take long: it goes on in a long place.

        Raises:
            GaveWay: its tenant can have none now.
        """
        self._places.move(self._lease)
        self._wake()

    @asynccontextmanager
    async def step(self) -> AsyncIterator[None]:
        """Wraps work of this process for the job; a long job may have to wait.

        Raises:
            JobStopped: while it waited.
        """
        if not self._lease.long_running:
            self._lease.check()
            yield
            return
        async with self._places.long_steps.piece():
            self._lease.check()
            yield

    async def pause(self) -> None:
        """Called between two parts of a long job, when all its results are kept.

        Raises:
            GaveWay: its turn is over, and another tenant has a long job that waits for its turn.
        """
        now = asyncio.get_running_loop().time()
        if now < self._turn_ends:
            return
        self._turn_ends = now + _TURN_SECONDS
        but = {self._lease.tenant_id, *self._places.full(True)}
        async with self._database.system() as session:
            waited_for = await long_ones_wait(session, but=but)
        if waited_for:
            raise GaveWay
