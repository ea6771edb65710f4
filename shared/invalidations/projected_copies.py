"""Copies in a service's own schema: the owner's events are applied by the service's event handlers, through its inbox.

The same events arrive again on the owner's stream, where the inbox drops them; whichever arrives first is applied. An
event about something not known here yet (`shared.handlers.NotYet`) makes nothing untrue: the stream brings it.

Tenants are applied separately. When a tenant's events cannot be applied, only its copies are unusable until they are,
or until the stream's consumer has had time to quarantine the event. The lease goes on for the others.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import orjson

from shared.background import run_in_background
from shared.delivery import Delivery, Dispatcher
from shared.errors import Unavailable
from shared.events.subscriptions import INVALIDATES
from shared.fair_semaphore import FairSemaphore
from shared.handlers import AnyHandler
from shared.health import Unready
from shared.invalidations.holder import Holder
from shared.redis_clients import stream_of
from shared.service import Runtime
from shared.telemetry import get_logger

# How long a start waits for its first lease. The owner may start later; until then requests get 503.
_START_SECONDS: Final = 0.5
# How long a request waits for a lease that has run out. A process or an owner that stalls for a moment renews late,
# which is no reason to refuse requests; an owner that is gone is not worth more of a caller's time.
_RENEWAL_SECONDS: Final = 1.0
# For one tenant's events of one poll: a lease lasts three times as long.
_APPLY_SECONDS: Final = 1.0
_AT_ONCE: Final = 4
_AGAIN_SECONDS: Final = 0.5
_MOST_ATTEMPTS: Final = 120
_MOST_WAITING: Final = 1000

_log = get_logger(__name__)

Applied = Callable[[bytes], None]


@dataclass(slots=True)
class _Behind:
    """Events of a tenant that could not be applied yet."""

    entries: list[bytes] = field(default_factory=list)
    attempts: int = 0


class Projection:
    """What a service remembers of one owner, and whether it may be used. Made in the lifespan."""

    def __init__(self, lease: Holder) -> None:
        self._lease = lease
        self._behind: dict[uuid.UUID, _Behind] = {}

    def check(self, tenant_id: uuid.UUID) -> None:
        """Require that the copies about a tenant may be used now.

        Raises:
            Unavailable: the owner has not responded lately, or its events could not be applied yet.
        """
        self._lease.check()
        if tenant_id in self._behind:
            raise Unavailable(retry_after=1)

    async def wait(self, tenant_id: uuid.UUID) -> None:
        """As `check`, after waiting up to `_RENEWAL_SECONDS` for a late renewal.

        Raises:
            Unavailable: see `check`.
        """
        await self._lease.wait(_RENEWAL_SECONDS)
        self.check(tenant_id)

    @asynccontextmanager
    async def kept(
        self, runtime: Runtime, owner: str, handlers: Sequence[AnyHandler], *, applied: Applied = lambda _entry: None
    ) -> AsyncIterator[None]:
        """Keep the projection true for the length of the block. The service is ready while it has its lease.

        Args:
            handlers: of events that `INVALIDATES` names; others are left out, since their order matters.
            applied: called with each event once it is applied.
        """
        service = runtime.settings.service
        wanted = {event.type for event in INVALIDATES[service]}
        known = [handler for handler in handlers if handler.event.type in wanted]
        dispatcher = Dispatcher(runtime.database, known, runtime.metrics)
        applying = _Applying(dispatcher, owner, service, applied, self._behind)
        runtime.checks["copies"] = partial(_check, self._lease)
        async with (
            run_in_background(partial(self._lease.run, applying.apply), name="lease"),
            run_in_background(applying.catch_up, name="catching up"),
        ):
            await self._lease.wait(_START_SECONDS)
            yield


class _Applying:
    def __init__(
        self, dispatcher: Dispatcher, owner: str, service: str, applied: Applied, behind: dict[uuid.UUID, _Behind]
    ) -> None:
        self._dispatcher = dispatcher
        self._owner = owner
        self._service = service
        self._applied = applied
        self._behind = behind
        self._turns = FairSemaphore(_AT_ONCE)

    async def apply(self, entries: Sequence[bytes]) -> None:
        """Apply what the lease's holder received: afterwards every tenant's copies are true, or not used."""
        by_tenant: dict[uuid.UUID, list[bytes]] = {}
        for entry in entries:
            by_tenant.setdefault(uuid.UUID(orjson.loads(entry)["tenantid"]), []).append(entry)
        await asyncio.gather(*(self._apply_of(tenant_id, new) for tenant_id, new in by_tenant.items()))

    async def _apply_of(self, tenant_id: uuid.UUID, new: list[bytes]) -> None:
        if (behind := self._behind.get(tenant_id)) is not None:
            behind.entries = [*behind.entries, *new][-_MOST_WAITING:]
        elif not await self._applied_in_time(tenant_id, new):
            self._behind[tenant_id] = _Behind(new)

    async def catch_up(self) -> None:
        """Try again what could not be applied, until cancelled."""
        while True:
            await asyncio.sleep(_AGAIN_SECONDS)
            await asyncio.gather(*(self._try_again(tenant_id) for tenant_id in list(self._behind)))

    async def _try_again(self, tenant_id: uuid.UUID) -> None:
        behind = self._behind[tenant_id]
        entries = list(behind.entries)
        if await self._applied_in_time(tenant_id, entries):
            behind.entries = behind.entries[len(entries) :]
        else:
            behind.attempts += 1
            if behind.attempts < _MOST_ATTEMPTS:
                return
            # By now the consumer of the stream has quarantined it.
            _log.error("invalidations_given_up", owner=self._owner, tenant_id=str(tenant_id), events=len(entries))
            behind.entries = []
        if not behind.entries:
            del self._behind[tenant_id]

    async def _applied_in_time(self, tenant_id: uuid.UUID, entries: Sequence[bytes]) -> bool:
        stream = stream_of(self._owner)
        # Counted as first deliveries: only the stream's consumer quarantines events.
        deliveries = [Delivery(stream, self._service, "invalidation", entry, 1) for entry in entries]
        try:
            async with asyncio.timeout(_APPLY_SECONDS), self._turns.turn(tenant_id):
                outcome = await self._dispatcher.deliver(deliveries)
        except TimeoutError:
            return False
        if len(outcome.done) + len(outcome.not_yet) < len(deliveries):
            return False
        for entry in entries:
            self._applied(entry)
        return True


async def _check(lease: Holder) -> None:
    if not lease.current:
        raise Unready("the service that owns the copies kept here does not respond")
