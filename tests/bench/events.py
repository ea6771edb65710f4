"""The event backbone by itself: relay and consumer on real servers, beside a bare loop over redis-py.

One process does it all (writing, relaying, consuming), against servers that wait for the disk as in production. The
bare loop adds the same entries in pipelines of the relay's size and reads and acknowledges them in the consumer's
batches: what Redis and redis-py alone would allow.
"""

import asyncio
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

from redis.asyncio import Redis
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from infra.local.home import Home
from infra.local.stack import Stack
from infra.postgres.roles import Access
from shared import db, telemetry
from shared.background import run_in_background
from shared.events.envelope import Envelope, Event
from shared.handlers import AnyHandler, BatchHandler, Handler, Received
from shared.migrations import upgrade
from shared.outbox import OutboxEvent, publish
from shared.project_access import KnownProject
from shared.redis_clients import command_client
from shared.relay import BATCH, Relay
from shared.settings import DatabaseSettings
from shared.stream_consumer import MAX_RECORDS, Consumer
from shared.streams import make_groups
from shared.tenancy import Database
from tests.support.serving import make_settings

BACKLOG: Final = 50_000
TENANTS: Final = 4
PER_SECOND: Final = 100
SECONDS: Final = 20
STREAM: Final = "events.notifier"


class BenchSettings(DatabaseSettings):
    service: ClassVar[str] = "notifier"


class ThingHappened(Event):
    """Sent by nobody but this benchmark, on the stream of the schema it borrows."""

    type: ClassVar[str] = "notifier.thing.happened.v1"
    subject_field: ClassVar[str] = "thing_id"

    thing_id: uuid.UUID
    note: str = "some words that make the payload as long as that of a real event about a document of a project"


async def backbone(folder: Path) -> None:
    """Commit to handler at a steady rate; then a backlog through the relay, and through a handler that writes a row."""
    async with _parts(folder) as (stack, database, redis):
        await _latency(stack, database, redis)
        await _drain(stack, database, redis)


@asynccontextmanager
async def _parts(folder: Path) -> AsyncIterator[tuple[Stack, Database, Redis]]:
    async with Stack(Home(folder), durable=True, with_oidc=False) as stack:
        await asyncio.to_thread(upgrade, "notifier", stack.database_url("notifier", Access.OWNER))
        settings = make_settings(BenchSettings, {**stack.environment("notifier"), "QUARRY_LOG_LEVEL": "WARNING"})
        telemetry.configure(settings)
        engines = await db.connect(settings)
        redis = command_client(stack.redis.url())
        try:
            yield stack, Database(engines), redis
        finally:
            await redis.aclose()
            await engines.dispose()


async def _latency(stack: Stack, database: Database, redis: Redis) -> None:
    committed: dict[uuid.UUID, float] = {}
    waited: list[float] = []
    unmeasured: list[uuid.UUID] = []

    async def handle(_: AsyncSession, event: ThingHappened, __: Envelope) -> None:
        began = committed.get(event.thing_id)
        if began is None:
            # Handled before this process came to write down the commit.
            unmeasured.append(event.thing_id)
        else:
            waited.append(time.perf_counter() - began)

    async def all_handled() -> bool:
        return len(waited) >= PER_SECOND * SECONDS - len(unmeasured)

    publishing = Relay("notifier", database, redis)
    database.on_outbox_commit(publishing.wake)
    async with (
        run_in_background(publishing.run, name="relay"),
        _consuming(stack, database, [Handler(ThingHappened, handle, "bench.latency")]),
    ):
        tenants = [uuid.uuid4() for _ in range(TENANTS)]
        began = time.perf_counter()
        for number in range(PER_SECOND * SECONDS):
            await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.perf_counter()))
            thing = uuid.uuid4()
            async with database.tenant(tenants[number % TENANTS]) as session:
                publish(session, ThingHappened(thing_id=thing), sequence=1)
            committed[thing] = time.perf_counter()
        await _until(all_handled, within=30)
    centiles = statistics.quantiles(waited, n=100)
    print(
        f"commit to handler at {PER_SECOND} events/s: p50 {1000 * centiles[49]:.1f}, p95 {1000 * centiles[94]:.1f}, "
        f"p99 {1000 * centiles[98]:.1f}, n {len(waited)}"
    )


async def _drain(stack: Stack, database: Database, redis: Redis) -> None:
    for tenant_id in [uuid.uuid4() for _ in range(TENANTS)]:
        for _ in range(BACKLOG // TENANTS // 500):
            await _write(database, tenant_id, 500)
    publishing = Relay("notifier", database, redis)
    async with _rate("relay") as relayed, run_in_background(publishing.run, name="relay"):
        await _until(lambda: _all_published(database), within=120)
    entries: Any = await redis.xrange(STREAM, count=1)
    added, taken = await _bare_loop(redis, entries[0][1])
    _compare("relay", relayed, added)
    for name, handler in (
        ("handler that writes a row, in batches", BatchHandler(ThingHappened, _write_rows, "bench.batch")),
        ("handler that writes a row, one by one", Handler(ThingHappened, _write_row, "bench.single")),
    ):
        await make_groups(redis, STREAM, ["notifier"])
        async with _rate(name) as handled, _consuming(stack, database, [handler]):
            await _until(lambda: _all_acknowledged(redis), within=300)
        await redis.xgroup_destroy(STREAM, "notifier")
        _compare(name, handled, taken)


async def _bare_loop(redis: Redis, fields: dict[Any, Any]) -> tuple[float, float]:
    """Entries per second that redis-py alone adds, and reads and acknowledges."""
    stream, group = "bench.bare", "bench"
    began = time.perf_counter()
    for _ in range(BACKLOG // BATCH):
        async with redis.pipeline(transaction=False) as pipeline:
            for _ in range(BATCH):
                pipeline.xadd(stream, fields)
            await pipeline.execute()
    added = BACKLOG / (time.perf_counter() - began)
    await make_groups(redis, stream, [group])
    began = time.perf_counter()
    while answer := await redis.xreadgroup(group, "one", {stream: ">"}, count=MAX_RECORDS):
        await redis.xack(stream, group, *(entry_id for entry_id, _ in _entries(answer)))
    taken = BACKLOG / (time.perf_counter() - began)
    await redis.delete(stream)
    return added, taken


def _entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of one stream; redis-py answers a list, or with RESP3 a dictionary."""
    if isinstance(answer, dict):
        ((batch,),) = answer.values()
        return list(batch)
    ((_, batch),) = answer
    return list(batch)


async def _write_row(session: AsyncSession, event: ThingHappened, envelope: Envelope) -> None:
    session.add(KnownProject(project_id=uuid.uuid4(), active=True, sequence=envelope.sequence))


async def _write_rows(session: AsyncSession, received: Sequence[Received[ThingHappened]]) -> None:
    rows = [{"project_id": uuid.uuid4(), "active": True, "sequence": item.envelope.sequence} for item in received]
    await session.execute(insert(KnownProject), rows)


async def _write(database: Database, tenant_id: uuid.UUID, count: int) -> None:
    async with database.tenant(tenant_id) as session:
        for _ in range(count):
            publish(session, ThingHappened(thing_id=uuid.uuid4()), sequence=1)


@asynccontextmanager
async def _consuming(stack: Stack, database: Database, handlers: Sequence[AnyHandler]) -> AsyncIterator[None]:
    consumer = Consumer("notifier", stack.redis.url(), database, handlers)
    await consumer.start()
    try:
        yield
    finally:
        await consumer.stop()


@asynccontextmanager
async def _rate(what: str) -> AsyncIterator[list[float]]:
    """Events per second of a block that moves the backlog; waits for nothing that comes after it."""
    rate: list[float] = []
    began = time.perf_counter()
    yield rate
    rate.append(BACKLOG / (time.perf_counter() - began))
    print(f"drain of {BACKLOG:,} events, {what}: {rate[0]:,.0f} a second")


def _compare(what: str, rate: list[float], bare: float) -> None:
    print(f"    a bare redis-py loop: {bare:,.0f} a second; ratio of {what} {rate[0] / bare:.2f}")


async def _all_published(database: Database) -> bool:
    async with database.system() as session:
        unpublished = select(func.count()).select_from(OutboxEvent).where(OutboxEvent.published_at.is_(None))
        return await session.scalar(unpublished) == 0


async def _all_acknowledged(redis: Redis) -> bool:
    groups: Any = await redis.xinfo_groups(STREAM)
    (group,) = groups
    info: Any = await redis.xinfo_stream(STREAM)
    return bool(group["pending"] == 0 and group["last-delivered-id"] == info["last-generated-id"])


async def _until(probe: Callable[[], Awaitable[bool]], *, within: float) -> None:
    deadline = time.perf_counter() + within
    while not await probe():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"not done within {within:g} s")
        await asyncio.sleep(0.1)
