"""The path of an event: outbox, relay, stream, consumer; and what each part does when its neighbour fails."""

import asyncio
import socket
import subprocess
import uuid
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from infra.local.stack import Stack
from shared import dead_letters, delivery
from shared.dead_letters import DeadLetter
from shared.events.envelope import Envelope
from shared.handlers import Handler
from shared.inbox import InboxEntry
from shared.relay import Relay
from shared.stream_consumer import Consumer
from shared.tenancy import Database
from tests.shared.backbone import (
    STREAM,
    Recorder,
    consuming,
    effects,
    entries_of,
    has_entries,
    is_idle,
    letter_of,
    value_of,
    write,
)
from tests.shared.events import NoteWritten
from tests.support.polling import eventually

pytestmark = pytest.mark.usefixtures("fresh_stream")


async def test_an_event_reaches_its_handler_once_and_is_acknowledged(
    stack: Stack, database: Database, relay: Relay, redis_client: Redis, recorder: Recorder, tenant_id: uuid.UUID
) -> None:
    async with consuming(stack, database, recorder) as consumer:
        notes = await write(database, tenant_id, 20)
        await eventually(lambda: value_of(len(recorder.seen) == 20))
        assert recorder.seen == notes
        await eventually(lambda: is_idle(redis_client))
        await consumer.check()
    assert await effects(database, tenant_id) == set(notes)


async def test_events_written_before_the_first_start_are_read(
    stack: Stack, database: Database, relay: Relay, recorder: Recorder, tenant_id: uuid.UUID, redis_client: Redis
) -> None:
    notes = await write(database, tenant_id, 3)
    await eventually(lambda: has_entries(redis_client, 3))
    async with consuming(stack, database, recorder):
        await eventually(lambda: value_of(recorder.seen == notes))


async def test_the_same_event_twice_has_one_effect(
    stack: Stack, database: Database, relay: Relay, redis_client: Redis, recorder: Recorder, tenant_id: uuid.UUID
) -> None:
    async with consuming(stack, database, recorder):
        notes = await write(database, tenant_id)
        await eventually(lambda: value_of(recorder.seen == notes))
        ((_, fields),) = await entries_of(redis_client)
        for _ in range(3):
            await redis_client.xadd(STREAM, fields)
        later = await write(database, tenant_id)
        await eventually(lambda: value_of(recorder.seen == notes + later))
        await eventually(lambda: is_idle(redis_client))
    # Not even begun a second time: the row's key would hide an effect that is merely refused.
    assert recorder.called == notes + later
    async with database.tenant(tenant_id) as session:
        assert await session.scalar(select(func.count()).select_from(InboxEntry)) == 2


async def test_a_flushed_redis_loses_no_event_and_repeats_no_effect(
    stack: Stack, database: Database, relay: Relay, redis_client: Redis, recorder: Recorder, tenant_id: uuid.UUID
) -> None:
    async with consuming(stack, database, recorder):
        before = await write(database, tenant_id, 5)
        await eventually(lambda: value_of(len(recorder.seen) == 5))
        await redis_client.flushdb()
        after = await write(database, tenant_id, 5)
        await eventually(lambda: value_of(set(recorder.seen) == {*before, *after}), within=15)
    assert len(recorder.seen) == 10


async def test_what_a_dead_process_left_behind_is_finished_before_anything_new(
    stack: Stack, database: Database, relay: Relay, redis_client: Redis, recorder: Recorder, tenant_id: uuid.UUID
) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = await write(database, tenant_id, 3)
    await eventually(lambda: has_entries(redis_client, 3))
    await redis_client.xgroup_create(STREAM, "notifier", id="0")
    await redis_client.xreadgroup("notifier", f"{socket.gethostname()}-{gone.pid}", {STREAM: ">"}, count=3)
    new = await write(database, tenant_id, 2)
    await eventually(lambda: has_entries(redis_client, 5))
    async with consuming(stack, database, recorder):
        await eventually(lambda: value_of(len(recorder.seen) == 5), within=5)
        await eventually(lambda: is_idle(redis_client))
    assert recorder.seen == left + new


async def test_an_undecodable_entry_becomes_a_dead_letter_at_once(
    stack: Stack, database: Database, relay: Relay, redis_client: Redis, recorder: Recorder, tenant_id: uuid.UUID
) -> None:
    async with consuming(stack, database, recorder):
        entry_id: Any = await redis_client.xadd(STREAM, {"event": b"\xff not json"})
        notes = await write(database, tenant_id)
        await eventually(lambda: value_of(recorder.seen == notes))
        letter = await eventually(lambda: letter_of(database, entry_id.decode()))
        assert letter is not None
        await eventually(lambda: is_idle(redis_client))
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
        await eventually(lambda: value_of(recorder.seen == notes))
        await eventually(lambda: is_idle(redis_client))
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
        await eventually(lambda: value_of(set(recorder.seen) == set(good)))
        await eventually(lambda: is_idle(redis_client))
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
    await eventually(lambda: value_of(recorder.seen == notes))
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
        await eventually(lambda: value_of(recorder.seen == notes), within=15)
