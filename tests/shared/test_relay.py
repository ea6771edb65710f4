"""The relay: what is committed reaches the stream, in order, whatever Redis forgets."""

import asyncio
import uuid
from functools import partial
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis
from sqlalchemy import select

import shared.relay
from shared import db
from shared.background import run_in_background
from shared.events.envelope import Envelope
from shared.outbox import OutboxEvent, caused_by_request, publish
from shared.relay import Relay
from shared.tenancy import Database
from tests.shared.backbone import (
    STREAM,
    entries_of,
    has_entries,
    value_of,
    write,
)
from tests.shared.conftest import SampleSettings
from tests.shared.events import NoteWritten
from tests.support.polling import eventually

pytestmark = pytest.mark.usefixtures("fresh_stream")


async def test_a_rolled_back_change_announces_nothing(
    database: Database, relay: Relay, redis_client: Redis, tenant_id: uuid.UUID
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.tenant(tenant_id) as session:
            publish(session, NoteWritten(note_id=uuid.uuid4()), sequence=1)
            await session.flush()
            raise ZeroDivisionError
    (kept,) = await write(database, tenant_id)
    await eventually(lambda: has_entries(redis_client, 1))
    ((_, fields),) = await entries_of(redis_client)
    assert Envelope.from_json(fields[b"event"]).subject == str(kept)


async def test_a_tail_that_redis_lost_is_published_again(
    database: Database, relay: Relay, redis_client: Redis, tenant_id: uuid.UUID
) -> None:
    notes = await write(database, tenant_id, 4)
    await eventually(lambda: has_entries(redis_client, 4))
    entries = await entries_of(redis_client)
    epoch: Any = await redis_client.get(f"{STREAM}:epoch")
    # As after a crash that cost the unsynced end of the append-only file.
    async with redis_client.pipeline() as pipeline:
        pipeline.delete(STREAM)
        for entry_id, fields in entries[:2]:
            pipeline.xadd(STREAM, fields, id=entry_id)
        pipeline.set(f"{STREAM}:epoch", epoch)
        await pipeline.execute()
    await eventually(lambda: has_entries(redis_client, 4), within=15)
    subjects = [Envelope.from_json(fields[b"event"]).subject for _, fields in await entries_of(redis_client)]
    assert subjects == [str(note) for note in notes]


async def test_only_one_relay_of_a_service_leads(database: Database, relay: Relay, redis_client: Redis) -> None:
    second = Relay("notifier", database, redis_client)
    async with run_in_background(second.run, name="second relay"):
        await asyncio.sleep(0.6)
        assert (relay.leading, second.leading) == (True, False)


async def test_a_commit_in_a_process_that_does_not_lead_wakes_the_one_that_does(
    settings: SampleSettings,
    relay: Relay,
    redis_client: Redis,
    tenant_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared.relay, "POLL_SECONDS", 60.0)
    engines = await db.connect(settings)
    elsewhere = Database(engines)
    second = Relay("notifier", elsewhere, redis_client)
    elsewhere.on_outbox_commit(second.wake)
    async with run_in_background(second.run, name="second relay"):
        for count in range(1, 4):
            await write(elsewhere, tenant_id)
            await eventually(partial(has_entries, redis_client, count))
        assert (relay.leading, second.leading) == (True, False)
        assert await redis_client.xlen(f"{STREAM}:wake") == 1
    await engines.dispose()


async def test_the_relay_takes_over_from_one_that_ended(
    database: Database, redis_client: Redis, tenant_id: uuid.UUID
) -> None:
    first, second = (Relay("notifier", database, redis_client) for _ in range(2))
    async with run_in_background(second.run, name="second relay"):
        async with run_in_background(first.run, name="first relay"):
            await eventually(lambda: value_of(first.leading or second.leading))
        await eventually(lambda: value_of(second.leading))
        await write(database, tenant_id)
        await eventually(lambda: has_entries(redis_client, 1))


async def test_a_tail_lost_behind_a_silent_reconnection_is_noticed_by_the_next_batch(
    database: Database, relay: Relay, redis_client: Redis, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the look every few seconds only the batch itself can notice.
    monkeypatch.setattr(shared.relay, "CHECK_SECONDS", 3600.0)
    await eventually(lambda: value_of(relay._next_check > asyncio.get_running_loop().time() + 60))
    notes = await write(database, tenant_id, 3)
    await eventually(lambda: has_entries(redis_client, 3))
    await eventually(lambda: all_published(database))
    (first, *_) = await entries_of(redis_client)
    epoch: Any = await redis_client.get(f"{STREAM}:epoch")
    async with redis_client.pipeline() as pipeline:
        pipeline.delete(STREAM)
        pipeline.xadd(STREAM, first[1], id=first[0])
        pipeline.set(f"{STREAM}:epoch", epoch)
        await pipeline.execute()
    notes += await write(database, tenant_id)
    await eventually(lambda: has_entries(redis_client, 4))
    subjects = {Envelope.from_json(fields[b"event"]).subject for _, fields in await entries_of(redis_client)}
    assert subjects == {str(note) for note in notes}


async def test_the_groups_of_every_subscriber_are_there_before_the_first_event(
    database: Database, redis_client: Redis, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.relay, "SUBSCRIBERS", {"notifier": ("early", "late")})
    publishing = Relay("notifier", database, redis_client)
    await write(database, tenant_id)
    async with run_in_background(publishing.run, name="relay"):
        await eventually(lambda: has_entries(redis_client, 1))
    groups: Any = await redis_client.xinfo_groups(STREAM)
    assert {(group["name"], group["last-delivered-id"]) for group in groups} == {(b"early", b"0-0"), (b"late", b"0-0")}


async def test_an_entry_is_the_envelope_of_its_row(
    database: Database, relay: Relay, redis_client: Redis, tenant_id: uuid.UUID
) -> None:
    async with database.tenant(tenant_id) as session:
        caused_by_request(session, "request-7")
        publish(session, NoteWritten(note_id=(note := uuid.uuid4())), sequence=7)
    await eventually(lambda: has_entries(redis_client, 1))
    ((_, fields),) = await entries_of(redis_client)
    envelope = Envelope.from_json(fields[b"event"])
    assert envelope.payload() == NoteWritten(note_id=note)
    assert (envelope.tenantid, envelope.sequence, envelope.correlationid) == (tenant_id, 7, "request-7")
    assert orjson.loads(fields[b"event"]) == orjson.loads(envelope.to_json())


async def all_published(database: Database) -> bool:
    async with database.system() as session:
        return not (await session.scalars(select(OutboxEvent.id).where(OutboxEvent.published_at.is_(None)))).all()
