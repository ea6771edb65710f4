"""What happens to stream entries: decoded, applied once per handler, or quarantined. Knows no Redis.

Guarantees: a handler's effect and its inbox row are one transaction bound to the event's tenant. `Outcome.done` holds
only entries whose every effect, or dead letter, is committed: only those may be acknowledged. An event counts on the
stream of its producer alone; on another it is quarantined, whoever handles it.
Fails by: leaving entries out. They stay pending and are delivered again; an outage of Postgres is never the event's
fault: `Outcome.not_counted` says which deliveries must not count towards the dead letter. A statement that ran into its
time limit is the event's fault: the next attempt would run into it too.

Entries of one read that belong to one tenant share a transaction: a commit costs more than most effects. When anything
in it fails, all of it is rolled back and each event is applied by itself, so that one failure does not affect others.
"""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared.db import is_outage
from shared.dead_letters import MAX_DELIVERIES, Evidence, error_name, quarantine
from shared.events.envelope import Envelope, ForeignEvent, Undecodable, name_of
from shared.failpoints import failpoint
from shared.handlers import AnyHandler, Applied, BatchHandler, NotYet, Received, call, call_with_all
from shared.inbox import Effect, claim
from shared.metrics import Metrics
from shared.resilience import Backoff
from shared.telemetry import bind, get_logger
from shared.tenancy import Database

HANDLER_SECONDS = 10.0
_STATEMENT_TOO_LONG = "57014"

AFTER_CLAIM = failpoint("handler.after_claim", "inbox rows written, effects not")
AFTER_EFFECT = failpoint("handler.after_effect", "inbox rows and effects written, not committed")
AFTER_QUARANTINE = failpoint("handler.after_quarantine", "evidence committed, entry not acknowledged")

_log = get_logger(__name__)


class HandlerTimeout(RuntimeError):
    """A handler held its transaction for too long."""


class NeverReturned(RuntimeError):
    """Every process that began to handle the event ended before it was done."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One entry as it came off a stream. `count` says how often Redis has delivered it, this time included."""

    stream: str
    group: str
    entry_id: str
    raw: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the entries of one read; all but `done` are delivered again. `not_yet` concern things not known
    here yet."""

    done: list[Delivery] = field(default_factory=list)
    not_counted: list[Delivery] = field(default_factory=list)
    not_yet: list[Delivery] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Work:
    """A decoded delivery and the handlers that want it."""

    delivery: Delivery
    received: Received[Any]
    handlers: Sequence[AnyHandler]

    def effects(self) -> list[Effect]:
        return [(self.received.envelope.id, handler.name) for handler in self.handlers]


def _excuses(error: BaseException) -> bool:
    """Whether the error says nothing about the event: an outage, but not a statement that took too long."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return state != _STATEMENT_TOO_LONG and is_outage(error)


class Dispatcher:
    """Passes deliveries to the handlers of one service."""

    def __init__(self, database: Database, handlers: Sequence[AnyHandler], metrics: Metrics | None = None) -> None:
        self._database = database
        self._metrics = metrics or Metrics.unread()
        self._by_type: dict[str, list[AnyHandler]] = {}
        for handler in handlers:
            self._by_type.setdefault(handler.event.type, []).append(handler)
        self._names = {name_of(event_type) for event_type in self._by_type}

    @property
    def event_types(self) -> frozenset[str]:
        return frozenset(self._by_type)

    async def deliver(self, deliveries: Sequence[Delivery]) -> Outcome:
        """Handle the entries of one read."""
        outcome = Outcome()
        by_tenant: dict[uuid.UUID, list[_Work]] = {}
        for delivery in deliveries:
            try:
                work = self._decode(delivery)
            except Undecodable as error:
                reason = f"{type(error).__name__}: {error}" if isinstance(error, ForeignEvent) else str(error)
                unsaved = await self._quarantine(delivery, "decode", reason)
                (outcome.not_counted if unsaved else outcome.done).append(delivery)
                continue
            if work is None:
                outcome.done.append(delivery)
            else:
                by_tenant.setdefault(work.received.envelope.tenantid, []).append(work)
        for works in by_tenant.values():
            if len(works) > 1 and await self._apply_together(works):
                outcome.done.extend(work.delivery for work in works)
            else:
                for work in works:
                    await self._apply_alone(work, outcome)
        return outcome

    async def apply_again(self, raw: bytes, handler: str, stream: str) -> None:
        """Apply a dead letter to the handler it failed in; one that failed to decode, to every handler of its type.

        Raises:
            Undecodable: it still is, or `stream`, which it came from, is not its producer's.
            LookupError: there is no such handler any more.
        """
        work = self._decode(Delivery(stream, "", "", raw, 1))
        wanted = [item for item in work.handlers if handler in ("decode", item.name)] if work else []
        if work is None or not wanted:
            raise LookupError(f"no handler {handler!r} for this event")
        for item in wanted:
            await self._run(item, work.received)

    def _decode(self, delivery: Delivery) -> _Work | None:
        """None for an event that has no handler here."""
        envelope = Envelope.from_stream(delivery.raw, delivery.stream)
        if handlers := self._by_type.get(envelope.type):
            return _Work(delivery, Received(envelope.payload(), envelope), handlers)
        if name_of(envelope.type) in self._names:
            raise Undecodable(f"unknown version: {envelope.type}")
        return None

    # --- several events, one transaction -----------------------------------------------------------------------------

    async def _apply_together(self, works: Sequence[_Work]) -> bool:
        """Apply every effect of several events of one tenant, or none; False when it was none."""
        tenant_id = works[0].received.envelope.tenantid
        applied: list[Applied] = []
        try:
            async with asyncio.timeout(HANDLER_SECONDS), self._database.tenant(tenant_id) as session:
                wanted = await claim(session, [effect for work in works for effect in work.effects()])
                await AFTER_CLAIM.reach()
                batches: dict[str, tuple[BatchHandler[Any], list[Received[Any]]]] = {}
                for work in works:
                    for handler in work.handlers:
                        effect = (work.received.envelope.id, handler.name)
                        if effect not in wanted:
                            continue
                        # The same event may be in the batch twice.
                        wanted.remove(effect)
                        if isinstance(handler, BatchHandler):
                            batches.setdefault(handler.name, (handler, []))[1].append(work.received)
                        else:
                            applied.append(await call(session, handler, work.received))
                for batch_handler, received in batches.values():
                    applied.append(await call_with_all(session, batch_handler, received))
                await AFTER_EFFECT.reach()
        except Exception as error:
            _log.info("events_applied_one_by_one", events=len(works), reason=f"{type(error).__name__}: {error}"[:200])
            return False
        self._count(applied)
        return True

    # --- one event ---------------------------------------------------------------------------------------------------

    async def _apply_alone(self, work: _Work, outcome: Outcome) -> None:
        failures = [error for handler in work.handlers if (error := await self._failure_of(handler, work))]
        if not failures:
            outcome.done.append(work.delivery)
        elif all(isinstance(error, NotYet) for error in failures):
            outcome.not_yet.append(work.delivery)
        elif any(_excuses(error) for error in failures):
            outcome.not_counted.append(work.delivery)

    async def _failure_of(self, handler: AnyHandler, work: _Work) -> Exception | None:
        """Apply the event; returns why it has to be delivered again, None once it is applied or quarantined."""
        envelope, delivery = work.received.envelope, work.delivery
        try:
            if delivery.count > MAX_DELIVERIES:
                raise NeverReturned(f"given up after {delivery.count - 1} deliveries")
            await self._run(handler, work.received)
        except Exception as error:
            self._metrics.failed(handler.name)
            with bind(tenant_id=envelope.tenantid, event_id=envelope.id, request_id=envelope.correlationid):
                _log.warning("handler_failed", handler=handler.name, deliveries=delivery.count, exc_info=error)
                if delivery.count < MAX_DELIVERIES or _excuses(error):
                    return error
                return await self._quarantine(delivery, handler.name, f"{type(error).__name__}: {error}", envelope)
        return None

    async def _run(self, handler: AnyHandler, received: Received[Any]) -> None:
        """One transaction: inbox row, then effect. An outage of Postgres is waited out for a moment."""
        backoff = Backoff(first=0.05, most=1.0)
        envelope = received.envelope
        applied: list[Applied] = []
        while True:
            deadline = asyncio.timeout(HANDLER_SECONDS)
            try:
                async with deadline, self._database.tenant(envelope.tenantid) as session:
                    if await claim(session, [(envelope.id, handler.name)]):
                        await AFTER_CLAIM.reach()
                        if isinstance(handler, BatchHandler):
                            applied = [await call_with_all(session, handler, [received])]
                        else:
                            applied = [await call(session, handler, received)]
                        await AFTER_EFFECT.reach()
                return self._count(applied)
            except (DBAPIError, OSError, PoolTimeoutError) as error:
                if deadline.expired():
                    raise HandlerTimeout(f"{handler.name} took longer than {HANDLER_SECONDS:g} s") from error
                if not _excuses(error) or backoff.attempts >= 5:
                    raise
                await asyncio.sleep(backoff.next())

    def _count(self, applied: Sequence[Applied]) -> None:
        for handler, seconds, events in applied:
            self._metrics.handled(handler, seconds, events)

    async def _quarantine(
        self, delivery: Delivery, handler: str, reason: str, envelope: Envelope | None = None
    ) -> Exception | None:
        """Store the evidence; returns the outage that prevented it, if one did."""
        evidence = Evidence(
            stream=delivery.stream,
            entry_id=delivery.entry_id,
            consumer_group=delivery.group,
            handler=handler,
            reason=reason,
            attempts=delivery.count,
            payload=delivery.raw,
            tenant_id=envelope.tenantid if envelope else None,
            event_id=envelope.id if envelope else None,
            event_type=envelope.type if envelope else None,
        )
        try:
            await quarantine(self._database, evidence)
        except (DBAPIError, OSError, PoolTimeoutError) as error:
            _log.warning("quarantine_failed", stream=delivery.stream, entry_id=delivery.entry_id, exc_info=error)
            return error
        self._metrics.quarantined(handler)
        # The reason may quote a tenant's data; it is in the table.
        failure = error_name(reason)
        _log.error("dead_letter", stream=delivery.stream, entry_id=delivery.entry_id, handler=handler, failure=failure)
        await AFTER_QUARANTINE.reach()
        return None
