"""Parts of the backbone as its tests put them together: outbox, relay, stream, consumer, on the notifier's schema."""

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from infra.local.stack import Stack
from shared.dead_letters import DeadLetter
from shared.events.envelope import Envelope
from shared.handlers import AnyHandler, Handler
from shared.outbox import publish
from shared.project_access import KnownProject
from shared.stream_consumer import IDLE_MS, Consumer
from shared.tenancy import Database
from tests.shared.events import NoteWritten

STREAM: Final = "events.notifier"


class Recorder:
    """A handler whose effect is a row and whose failures are made to order."""

    def __init__(self) -> None:
        self.called: list[uuid.UUID] = []
        self.seen: list[uuid.UUID] = []
        self.fail: Callable[[NoteWritten], Exception | None] = lambda _: None

    async def __call__(self, session: AsyncSession, event: NoteWritten, envelope: Envelope) -> None:
        self.called.append(event.note_id)
        session.add(KnownProject(project_id=event.note_id, active=True, sequence=envelope.sequence))
        await session.flush()
        if error := self.fail(event):
            raise error
        self.seen.append(event.note_id)


@asynccontextmanager
async def consuming(
    stack: Stack, database: Database, recorder: Recorder, *, idle_ms: int = IDLE_MS
) -> AsyncIterator[Consumer]:
    """A consumer whose one handler is `recorder`."""
    handlers: Sequence[AnyHandler] = [Handler(NoteWritten, recorder, "tests.recorder")]
    consumer = Consumer("notifier", stack.redis.url(), database, handlers, idle_ms=idle_ms)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def write(database: Database, tenant_id: uuid.UUID, count: int = 1) -> list[uuid.UUID]:
    notes = [uuid.uuid4() for _ in range(count)]
    async with database.tenant(tenant_id) as session:
        for note in notes:
            publish(session, NoteWritten(note_id=note), sequence=1)
    return notes


async def effects(database: Database, tenant_id: uuid.UUID) -> set[uuid.UUID]:
    async with database.tenant(tenant_id) as session:
        return set(await session.scalars(select(KnownProject.project_id)))


async def value_of(value: Any) -> Any:
    return value


async def entries_of(redis: Redis) -> list[tuple[bytes, dict[Any, Any]]]:
    entries: Any = await redis.xrange(STREAM)
    return list(entries)


async def pending(redis: Redis) -> int:
    try:
        summary: Any = await redis.xpending(STREAM, "notifier")
    except ResponseError:
        return -1
    return int(summary["pending"])


async def has_entries(redis: Redis, count: int) -> bool:
    return bool(await redis.xlen(STREAM) == count)


async def is_idle(redis: Redis) -> bool:
    return await pending(redis) == 0


async def letter_of(database: Database, entry_id: str) -> DeadLetter | None:
    async with database.system() as session:
        return (await session.scalars(select(DeadLetter).where(DeadLetter.entry_id == entry_id))).one_or_none()
