"""What a service does about events: handlers, and the calling of one inside a transaction."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from opentelemetry.trace import SpanKind
from sqlalchemy.ext.asyncio import AsyncSession

from shared.events.envelope import Envelope, Event
from shared.outbox import caused_by_event
from shared.telemetry import bind, get_logger, mark_failed, span

E = TypeVar("E", bound=Event)
_log = get_logger(__name__)


class NotYet(RuntimeError):
    """An event concerns something not known here yet. It is delivered again later, when that may have arrived."""


class Received(NamedTuple, Generic[E]):
    """An event as a handler gets it."""

    event: E
    envelope: Envelope


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
class BatchHandler(Generic[E]):
    """A handler that takes several events of one tenant at once, in order, where one statement is enough for all."""

    event: type[E]
    call: Callable[[AsyncSession, Sequence[Received[E]]], Awaitable[None]]
    name: str


AnyHandler = Handler[Any] | BatchHandler[Any]


class Applied(NamedTuple):
    """What a handler did, for the metrics."""

    handler: str
    seconds: float
    events: int


async def call(session: AsyncSession, handler: Handler[Any], received: Received[Any]) -> Applied:
    """Apply one event in a session that others may share: what one has loaded is not what the next sees."""
    began = time.perf_counter()
    event, envelope = received
    caused_by_event(session, envelope)
    with (
        bind(tenant_id=envelope.tenantid, event_id=envelope.id, request_id=envelope.correlationid),
        span(f"handle {handler.name}", parent=envelope.traceparent, kind=SpanKind.CONSUMER) as current,
    ):
        try:
            await handler.call(session, event, envelope)
        except Exception as error:
            mark_failed(current, f"{type(error).__name__}: {error}")
            raise
        await session.flush()
        session.expunge_all()
        _log.debug("event_handled", handler=handler.name, type=envelope.type)
    return Applied(handler.name, time.perf_counter() - began, 1)


async def call_with_all(
    session: AsyncSession, handler: BatchHandler[Any], received: Sequence[Received[Any]]
) -> Applied:
    """Apply several events of one tenant, traced to the first of them."""
    began = time.perf_counter()
    first = received[0].envelope
    with (
        bind(tenant_id=first.tenantid),
        span(f"handle {handler.name}", parent=first.traceparent, kind=SpanKind.CONSUMER),
    ):
        await handler.call(session, received)
        await session.flush()
        session.expunge_all()
    return Applied(handler.name, time.perf_counter() - began, len(received))
