"""What happens to one stream entry: decoded, applied once per handler, or quarantined. Knows no Redis.

Guarantees: a handler's effect and its inbox row are one transaction bound to the event's tenant. `deliver` answers
True only when every effect, or its dead letter, is committed: only then may the entry be acknowledged.
Fails by: answering False. The entry stays pending and is delivered again; an outage of Postgres is never the event's
fault, so it does not lead to a dead letter.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from opentelemetry.trace import SpanKind
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession

from shared.dead_letters import MAX_DELIVERIES, Evidence, quarantine
from shared.events.envelope import Envelope, Event, Undecodable
from shared.inbox import first_time
from shared.resilience import Backoff
from shared.telemetry import bind, get_logger, mark_failed, span
from shared.tenancy import Database

HANDLER_SECONDS = 10.0
_OUTAGE_STATES = frozenset({"08", "40", "53", "57", "58"})

E = TypeVar("E", bound=Event)
_log = get_logger(__name__)


class HandlerTimeout(RuntimeError):
    """A handler held its transaction for too long."""


@dataclass(frozen=True, slots=True)
class Handler(Generic[E]):
    """What one service does about one event. `name` is its identity in the inbox: a new name applies old events again.

    `call` gets a session bound to the event's tenant and must do nothing that a rollback cannot undo; what has to
    happen outside Postgres is registered with `shared.tenancy.after_commit`.
    """

    event: type[E]
    call: Callable[[AsyncSession, E, Envelope], Awaitable[None]]
    name: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One entry as it came off a stream. `count` says how often Redis has delivered it, this time included."""

    stream: str
    group: str
    entry_id: str
    raw: bytes
    count: int


class Dispatcher:
    """Brings deliveries to the handlers of one service."""

    def __init__(self, database: Database, handlers: Sequence[Handler[Any]]) -> None:
        self._database = database
        self._by_type: dict[str, list[Handler[Any]]] = {}
        for handler in handlers:
            self._by_type.setdefault(handler.event.type, []).append(handler)

    @property
    def event_types(self) -> frozenset[str]:
        return frozenset(self._by_type)

    async def deliver(self, delivery: Delivery) -> bool:
        """Handle one entry; True when it may be acknowledged."""
        try:
            envelope = Envelope.from_json(delivery.raw)
            handlers = self._by_type.get(envelope.type)
            if not handlers:
                return True
            event = envelope.payload()
        except Undecodable as error:
            return await self._quarantine(delivery, "decode", str(error))
        results = [await self._apply(handler, event, envelope, delivery) for handler in handlers]
        return all(results)

    async def _apply(self, handler: Handler[Any], event: Event, envelope: Envelope, delivery: Delivery) -> bool:
        attributes = {
            "messaging.system": "redis",
            "messaging.destination.name": delivery.stream,
            "messaging.message.id": str(envelope.id),
        }
        name = f"handle {handler.name}"
        with (
            bind(tenant_id=envelope.tenantid, event_id=envelope.id, request_id=envelope.correlationid),
            span(name, parent=envelope.traceparent, kind=SpanKind.CONSUMER, attributes=attributes) as current,
        ):
            try:
                await self._run(handler, event, envelope)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                mark_failed(current, reason)
                _log.warning("handler_failed", handler=handler.name, deliveries=delivery.count, exc_info=error)
                if delivery.count < MAX_DELIVERIES or _is_outage(error):
                    return False
                return await self._quarantine(delivery, handler.name, reason, envelope)
            _log.debug("event_handled", handler=handler.name, type=envelope.type)
        return True

    async def _run(self, handler: Handler[Any], event: Event, envelope: Envelope) -> None:
        """One transaction: inbox row, then effect. An outage of Postgres is waited out for a moment."""
        backoff = Backoff(first=0.05, most=1.0)
        while True:
            deadline = asyncio.timeout(HANDLER_SECONDS)
            try:
                async with deadline, self._database.tenant(envelope.tenantid) as session:
                    session.info["correlation_id"] = envelope.correlationid
                    session.info["causation_id"] = str(envelope.id)
                    if await first_time(session, envelope.id, handler.name):
                        await handler.call(session, event, envelope)
                return
            except (DBAPIError, OSError, PoolTimeoutError) as error:
                if deadline.expired():
                    raise HandlerTimeout(f"{handler.name} took longer than {HANDLER_SECONDS:g} s") from error
                if not _is_outage(error) or backoff.attempts >= 5:
                    raise
                await asyncio.sleep(backoff.next())

    async def _quarantine(
        self, delivery: Delivery, handler: str, reason: str, envelope: Envelope | None = None
    ) -> bool:
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
            return False
        _log.error("dead_letter", stream=delivery.stream, entry_id=delivery.entry_id, handler=handler, reason=reason)
        return True


def _is_outage(error: BaseException) -> bool:
    """Postgres away, restarting, read-only or choosing us as a deadlock victim: not the event's fault."""
    if isinstance(error, (OSError, PoolTimeoutError, InterfaceError, OperationalError)):
        return True
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", "") or "")
        return error.connection_invalidated or state[:2] in _OUTAGE_STATES or state == "25006"
    return False
