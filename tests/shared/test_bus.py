"""The path of an event: outbox, relay, stream, consumer; and what each part does when its neighbour fails."""

import asyncio
import socket
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from infra.local.stack import Stack
from shared import bus, dead_letters, delivery
from shared.access import KnownProject
from shared.background import run_in_background
from shared.bus import Consumer
from shared.dead_letters import DeadLetter
from shared.events.envelope import Envelope
from shared.following import follow
from shared.handlers import Handler
from shared.inbox import InboxEntry
from shared.janitor import Janitor
from shared.outbox import OutboxEvent, publish
from shared.redis_clients import reader_client
from shared.relay import Relay
from shared.tenancy import Database
from tests.shared.conftest import NoteWritten
from tests.support.polling import eventually

STREAM = "events.notifier"


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


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(autouse=True)
async def fresh_stream(redis_client: Redis, database: Database) -> None:
    await redis_client.flushall()
    async with database.system() as session:
        await session.execute(delete(OutboxEvent))


@pytest.fixture
async def relay(database: Database, redis_client: Redis) -> AsyncIterator[Relay]:
    relay = Relay("notifier", database, redis_client)
    database.on_outbox_commit(relay.wake)
    async with run_in_background(relay.run, name="relay"):
        await eventually(lambda: _async(relay.leading))
        yield relay


@asynccontextmanager
async def consuming(
    stack: Stack, database: Database, recorder: Recorder, *, idle_ms: int = bus.IDLE_MS
) -> AsyncIterator[Consumer]:
    handlers = [Handler(NoteWritten, recorder, "tests.recorder")]
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


async def _async(value: Any) -> Any:
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


async def test_an_event_reaches_its_handler_once_and_is_acknowledged(
    stack: Stack, database: Database, relay: Relay, redis_client: Redis, recorder: Recorder, tenant_id: uuid.UUID
) -> None:
    async with consuming(stack, database, recorder) as consumer:
        notes = await write(database, tenant_id, 20)
        await eventually(lambda: _async(len(recorder.seen) == 20))
        assert recorder.seen == notes
        await eventually(lambda: _is_idle(redis_client))
        await consumer.check()
    assert await effects(database, tenant_id) == set(notes)


async def test_events_written_before_the_first_start_are_read(
    stack: Stack, database: Database, relay: Relay, recorder: Recorder, tenant_id: uuid.UUID, redis_client: Redis
) -> None:
    notes = await write(database, tenant_id, 3)
    await eventually(lambda: _has_entries(redis_client, 3))
    async with consuming(stack, database, recorder):
        await eventually(lambda: _async(recorder.seen == notes))


async def test_a_rolled_back_change_announces_nothing(
    database: Database, relay: Relay, redis_client: Redis, tenant_id: uuid.UUID
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.tenant(tenant_id) as session:
            publish(session, NoteWritten(note_id=uuid.uuid4()), sequence=1)
            await session.flush()
            raise ZeroDivisionError
    (kept,) = await write(database, tenant_id)
    await eventually(lambda: _has_entries(redis_client, 1))
    ((_, fields),) = await entries_of(redis_client)
    assert Envelope.from_json(fields[b"event"]).subject == str(kept)


async def test_the_same_event_twice_has_one_effect(
    stack: Stack, database: Database, relay: Relay, redis_client: Redis, recorder: Recorder, tenant_id: uuid.UUID
) -> None:
    async with consuming(stack, database, recorder):
        notes = await write(database, tenant_id)
        await eventually(lambda: _async(recorder.seen == notes))
        ((_, fields),) = await entries_of(redis_client)
        for _ in range(3):
            await redis_client.xadd(STREAM, fields)
        later = await write(database, tenant_id)
        await eventually(lambda: _async(recorder.seen == notes + later))
        await eventually(lambda: _is_idle(redis_client))
    # Not even begun a second time: the row's key would hide an effect that is merely refused.
    assert recorder.called == notes + later
    async with database.tenant(tenant_id) as session:
        assert await session.scalar(select(func.count()).select_from(InboxEntry)) == 2


async def test_a_flushed_redis_loses_no_event_and_repeats_no_effect(
    stack: Stack, database: Database, relay: Relay, redis_client: Redis, recorder: Recorder, tenant_id: uuid.UUID
) -> None:
    async with consuming(stack, database, recorder):
        before = await write(database, tenant_id, 5)
        await eventually(lambda: _async(len(recorder.seen) == 5))
        await redis_client.flushall()
        after = await write(database, tenant_id, 5)
        await eventually(lambda: _async(set(recorder.seen) == {*before, *after}), within=15)
    assert len(recorder.seen) == 10


async def test_a_tail_that_redis_lost_is_published_again(
    database: Database, relay: Relay, redis_client: Redis, tenant_id: uuid.UUID
) -> None:
    notes = await write(database, tenant_id, 4)
    await eventually(lambda: _has_entries(redis_client, 4))
    entries = await entries_of(redis_client)
    epoch: Any = await redis_client.get(f"{STREAM}:epoch")
    # As after a crash that cost the unsynced end of the append-only file.
    async with redis_client.pipeline() as pipeline:
        pipeline.delete(STREAM)
        for entry_id, fields in entries[:2]:
            pipeline.xadd(STREAM, fields, id=entry_id)
        pipeline.set(f"{STREAM}:epoch", epoch)
        await pipeline.execute()
    await eventually(lambda: _has_entries(redis_client, 4), within=15)
    subjects = [Envelope.from_json(fields[b"event"]).subject for _, fields in await entries_of(redis_client)]
    assert subjects == [str(note) for note in notes]


async def test_what_a_dead_process_left_behind_is_finished_before_anything_new(
    stack: Stack, database: Database, relay: Relay, redis_client: Redis, recorder: Recorder, tenant_id: uuid.UUID
) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = await write(database, tenant_id, 3)
    await eventually(lambda: _has_entries(redis_client, 3))
    await redis_client.xgroup_create(STREAM, "notifier", id="0")
    await redis_client.xreadgroup("notifier", f"{socket.gethostname()}-{gone.pid}", {STREAM: ">"}, count=3)
    new = await write(database, tenant_id, 2)
    await eventually(lambda: _has_entries(redis_client, 5))
    async with consuming(stack, database, recorder):
        await eventually(lambda: _async(len(recorder.seen) == 5), within=5)
        await eventually(lambda: _is_idle(redis_client))
    assert recorder.seen == left + new


async def test_only_one_relay_of_a_service_leads(database: Database, relay: Relay, redis_client: Redis) -> None:
    second = Relay("notifier", database, redis_client)
    async with run_in_background(second.run, name="second relay"):
        await asyncio.sleep(0.6)
        assert (relay.leading, second.leading) == (True, False)


async def test_the_relay_takes_over_from_one_that_ended(
    database: Database, redis_client: Redis, tenant_id: uuid.UUID
) -> None:
    first, second = (Relay("notifier", database, redis_client) for _ in range(2))
    async with run_in_background(second.run, name="second relay"):
        async with run_in_background(first.run, name="first relay"):
            await eventually(lambda: _async(first.leading or second.leading))
        await eventually(lambda: _async(second.leading))
        await write(database, tenant_id)
        await eventually(lambda: _has_entries(redis_client, 1))


async def test_an_undecodable_entry_becomes_a_dead_letter_at_once(
    stack: Stack, database: Database, relay: Relay, redis_client: Redis, recorder: Recorder, tenant_id: uuid.UUID
) -> None:
    async with consuming(stack, database, recorder):
        entry_id: Any = await redis_client.xadd(STREAM, {"event": b"\xff not json"})
        notes = await write(database, tenant_id)
        await eventually(lambda: _async(recorder.seen == notes))
        letter = await eventually(lambda: _letter(database, entry_id.decode()))
        assert letter is not None
        await eventually(lambda: _is_idle(redis_client))
    assert (letter.handler, letter.attempts, letter.payload) == ("decode", 1, b"\xff not json")


async def test_a_failing_handler_is_retried_by_the_claiming_twin(
    stack: Stack,
    database: Database,
    relay: Relay,
    redis_client: Redis,
    recorder: Recorder,
    tenant_id: uuid.UUID,
) -> None:
    failures = iter([ValueError("first"), ValueError("second"), None])
    recorder.fail = lambda _: next(failures)
    async with consuming(stack, database, recorder, idle_ms=100):
        notes = await write(database, tenant_id)
        await eventually(lambda: _async(recorder.seen == notes))
        await eventually(lambda: _is_idle(redis_client))
    assert await effects(database, tenant_id) == set(notes)


async def test_poison_is_quarantined_with_its_evidence_and_blocks_nobody(
    stack: Stack,
    database: Database,
    relay: Relay,
    redis_client: Redis,
    recorder: Recorder,
    tenant_id: uuid.UUID,
) -> None:
    async with consuming(stack, database, recorder, idle_ms=100):
        (poison,) = notes = await write(database, tenant_id)
        recorder.fail = lambda event: ValueError("cannot") if event.note_id == poison else None
        good = await write(database, tenant_id, 30)
        await eventually(lambda: _async(set(recorder.seen) == set(good)))
        await eventually(lambda: _is_idle(redis_client))
    async with database.system() as session:
        letters = (await session.scalars(select(DeadLetter).where(DeadLetter.tenant_id == tenant_id))).all()
    assert [(letter.handler, letter.reason) for letter in letters] == [("tests.recorder", "ValueError: cannot")]
    assert letters[0].attempts == dead_letters.MAX_DELIVERIES
    assert Envelope.from_json(letters[0].payload).subject == str(notes[0])
    assert await effects(database, tenant_id) == set(good)


async def test_a_handler_that_hangs_is_stopped(
    stack: Stack,
    database: Database,
    relay: Relay,
    recorder: Recorder,
    tenant_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "HANDLER_SECONDS", 0.2)
    attempts = 0

    async def hang_once(session: AsyncSession, event: NoteWritten, envelope: Envelope) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await asyncio.Event().wait()
        await recorder(session, event, envelope)

    hanging = [Handler(NoteWritten, hang_once, "tests.hanging")]
    consumer = Consumer("notifier", stack.redis.url(), database, hanging, idle_ms=300)
    await consumer.start()
    notes = await write(database, tenant_id)
    await eventually(lambda: _async(recorder.seen == notes))
    await consumer.stop()
    assert attempts == 2


async def test_a_redis_that_answers_errors_is_waited_for(
    stack: Stack,
    database: Database,
    relay: Relay,
    redis_client: Redis,
    recorder: Recorder,
    tenant_id: uuid.UUID,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with consuming(stack, database, recorder):
        await redis_client.config_set("maxmemory", "1")
        try:
            caplog.clear()
            notes = await write(database, tenant_id)
            await asyncio.sleep(2)
            assert recorder.seen == []
            assert len(caplog.records) < 20
        finally:
            await redis_client.config_set("maxmemory", "0")
        await eventually(lambda: _async(recorder.seen == notes), within=15)


async def test_old_rows_are_pruned(database: Database, redis_client: Redis, tenant_id: uuid.UUID) -> None:
    await write(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        session.add(
            InboxEntry(event_id=uuid.uuid4(), handler="old", processed_at=datetime.now(UTC) - timedelta(days=9))
        )
    async with database.system() as session:
        old = datetime.now(UTC) - timedelta(days=2)
        await session.execute(
            update(OutboxEvent).where(OutboxEvent.tenant_id == tenant_id).values(published_at=old, entry_id="1-1")
        )
    await Janitor("notifier", database, redis_client, leads=lambda: True).sweep()
    async with database.tenant(tenant_id) as session:
        assert await session.scalar(select(func.count()).select_from(OutboxEvent)) == 0
        assert await session.scalar(select(func.count()).select_from(InboxEntry)) == 0


async def test_following_sees_every_entry_from_now_on(stack: Stack, redis_client: Redis) -> None:
    stream = f"events.followed-{uuid.uuid4()}"
    await redis_client.xadd(stream, {"n": b"before"})
    seen: list[bytes] = []
    gaps: list[None] = []
    reader = reader_client(stack.redis.url())
    following = partial(follow, reader, stream, lambda _, fields: seen.append(fields[b"n"]), lambda: gaps.append(None))
    async with run_in_background(following, name="follow"):
        await eventually(lambda: _read_by(redis_client))
        await redis_client.xadd(stream, {"n": b"1"})
        await redis_client.xadd(stream, {"n": b"2"})
        await eventually(lambda: _async(seen == [b"1", b"2"]))
        assert gaps == []
        await redis_client.client_kill_filter(_type="normal", skipme=True)
        await eventually(lambda: _async(gaps))
        await redis_client.xadd(stream, {"n": b"3"})
        await eventually(lambda: _async(seen == [b"1", b"2", b"3"]))
    await reader.aclose()


async def _read_by(redis: Redis) -> bool:
    clients: Any = await redis.client_list()
    return any(client["cmd"] == "xread" for client in clients)


async def _has_entries(redis: Redis, count: int) -> bool:
    return bool(await redis.xlen(STREAM) == count)


async def _is_idle(redis: Redis) -> bool:
    return await pending(redis) == 0


async def _letter(database: Database, entry_id: str) -> DeadLetter | None:
    async with database.system() as session:
        return (await session.scalars(select(DeadLetter).where(DeadLetter.entry_id == entry_id))).one_or_none()
