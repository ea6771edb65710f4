"""Joining a feed: where what was read ends and what is live begins."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from services.notifier.feeds import repository
from services.notifier.feeds.repository import FeedKey, StoredEvent
from services.notifier.streams import hub as hub_module
from services.notifier.streams.connection import Connection
from services.notifier.streams.frames import Frame
from services.notifier.streams.hub import Channel, Hub
from shared.auth import ALL_SCOPES, Principal, PrincipalKind
from shared.tenancy import Database
from tests.services.notifier.feeding import append, new_event
from tests.support.polling import eventually


def connection(tenant_id: uuid.UUID, project_id: uuid.UUID, cursor: int) -> Connection:
    caller = Principal(PrincipalKind.SESSION, "someone", uuid.uuid4(), tenant_id, "owner", ALL_SCOPES)
    stream = Connection(caller, FeedKey(tenant_id, project_id), queue_frames=64, now=0, ends_at=1000)
    stream.cursor = cursor
    return stream


async def never(until: int) -> None:
    raise AssertionError(f"nothing was missed, not even up to {until}")


async def ids(stream: Connection, count: int) -> list[int]:
    """The ids of the next `count` events that are to be written."""
    found: list[int] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            lines = (await stream.next_chunk()).decode().splitlines()
            found += [int(line.removeprefix("id: ")) for line in lines if line.startswith("id: ")]
    return found


async def test_what_came_before_the_first_subscriber_had_joined_is_not_lost(
    database: Database, tenant_id: uuid.UUID
) -> None:
    hub, project_id = Hub(database, poll_seconds=600), uuid.uuid4()
    stream = connection(tenant_id, project_id, cursor=0)
    await append(database, tenant_id, new_event(project_id))
    hub.wake(stream.key, 1)
    await hub.join(stream, never)
    assert await ids(stream, 1) == [1]
    hub.leave(stream)


async def test_a_subscriber_behind_its_channel_catches_up(database: Database, tenant_id: uuid.UUID) -> None:
    hub, project_id = Hub(database, poll_seconds=600), uuid.uuid4()
    first, second = (connection(tenant_id, project_id, cursor=0) for _ in range(2))
    await hub.join(first, never)
    for _ in range(3):
        await append(database, tenant_id, new_event(project_id))
    hub.wake(first.key, 3)
    assert await ids(first, 3) == [1, 2, 3]
    wanted: list[int] = []

    async def catch_up(until: int) -> None:
        wanted.append(until)
        second.cursor = until

    await hub.join(second, catch_up)
    assert wanted == [3]
    await append(database, tenant_id, new_event(project_id))
    hub.wake(first.key, 4)
    assert await ids(second, 1) == [4]
    assert await ids(first, 1) == [4]
    hub.close()


async def test_a_subscriber_ahead_of_its_channel_gets_nothing_twice(database: Database, tenant_id: uuid.UUID) -> None:
    hub, project_id = Hub(database, poll_seconds=600), uuid.uuid4()
    first = connection(tenant_id, project_id, cursor=0)
    await hub.join(first, never)
    for _ in range(3):
        await append(database, tenant_id, new_event(project_id))
    second = connection(tenant_id, project_id, cursor=2)
    await hub.join(second, never)
    hub.wake(first.key, 3)
    assert await ids(first, 3) == [1, 2, 3]
    assert await ids(second, 1) == [3]
    hub.close()


async def test_an_event_told_out_of_order_waits_for_those_before_it(database: Database, tenant_id: uuid.UUID) -> None:
    hub, project_id = Hub(database, poll_seconds=600), uuid.uuid4()
    stream = connection(tenant_id, project_id, cursor=0)
    await hub.join(stream, never)
    early, late = new_event(project_id), new_event(project_id)
    for event in (early, late):
        await append(database, tenant_id, event)
    hub.tell(stream.key, late.stored(2))
    hub.tell(stream.key, early.stored(1))
    assert await ids(stream, 2) == [1, 2]
    hub.leave(stream)
    hub.leave(stream)
    hub.tell(stream.key, new_event(project_id).stored(3))
    assert hub.channel(stream.key) is None


async def test_many_events_are_read_page_by_page(database: Database, tenant_id: uuid.UUID) -> None:
    hub, project_id = Hub(database, poll_seconds=600), uuid.uuid4()
    stream = connection(tenant_id, project_id, cursor=0)
    await hub.join(stream, never)
    await asyncio.gather(*(append(database, tenant_id, new_event(project_id)) for _ in range(20)))
    hub.wake(stream.key, 10**12)
    assert await ids(stream, 20) == list(range(1, 21))
    hub.leave(stream)


async def test_an_event_for_thousands_of_streams_lets_others_go_on_and_each_keeps_its_order(
    tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    project_id = uuid.uuid4()
    channel = Channel(FeedKey(tenant_id, project_id), 0)
    streams = [connection(tenant_id, project_id, cursor=0) for _ in range(1700)]
    channel.subscribers.update(streams)
    offered, pieces = 0, list[int]()
    offer = Connection.offer

    def counted(stream: Connection, frame: Frame) -> None:
        nonlocal offered
        offered += 1
        offer(stream, frame)

    async def others(frames: int) -> None:
        """Whatever else runs in the loop, until so many frames have been offered to all."""
        while offered < frames * len(channel.subscribers):
            before = offered
            await asyncio.sleep(0)
            pieces.append(offered - before)
            assert len(pieces) < 100

    monkeypatch.setattr(Connection, "offer", counted)
    channel.tell(new_event(project_id).stored(1))
    channel.show(Frame(b"event: job.progressed\nid: 0\n\n", project_id=project_id))
    channel.tell(new_event(project_id).stored(2))
    latecomer = connection(tenant_id, project_id, cursor=2)
    channel.subscribers.add(latecomer)
    await others(2)
    channel.tell(new_event(project_id).stored(3))
    await others(4)
    assert max(pieces) == 500
    for stream in streams:
        assert await ids(stream, 4) == [1, 0, 2, 3]
    assert await ids(latecomer, 2) == [0, 3]
    channel.close()


async def test_a_burst_for_many_streams_waits_as_rows_and_loses_nothing(
    database: Database, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "_OFFERED_AT_ONCE", 10)
    hub, project_id = Hub(database, poll_seconds=600), uuid.uuid4()
    streams = [connection(tenant_id, project_id, cursor=0) for _ in range(40)]
    for stream in streams:
        await hub.join(stream, never)
    events = [new_event(project_id) for _ in range(150)]
    for event in events:
        await append(database, tenant_id, event)
    reading = asyncio.gather(*(ids(stream, len(events)) for stream in streams))
    channel = hub.channel(streams[0].key)
    assert channel is not None
    for sequence, event in enumerate(events, start=1):
        hub.tell(channel.key, event.stored(sequence))
    assert channel.position < len(events), "what is on its way is bounded"
    assert await reading == [list(range(1, len(events) + 1))] * len(streams)
    assert [stream.ending for stream in streams] == [None] * len(streams)
    hub.close()


async def test_a_tenant_with_many_busy_feeds_leaves_readers_to_others_and_to_the_poll(
    database: Database, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_id = uuid.uuid4()
    hub, project_id = Hub(database, poll_seconds=0.01), uuid.uuid4()
    streams = [connection(tenant_id, uuid.uuid4(), cursor=0) for _ in range(8)]
    stream = connection(other_id, project_id, cursor=0)
    flooded, read = list[uuid.UUID](), repository.events_between

    async def slow(session: AsyncSession, key: FeedKey, **bounds: Any) -> Sequence[StoredEvent]:
        if key.tenant_id == tenant_id:
            flooded.append(key.feed_id)
            await asyncio.Event().wait()
        return await read(session, key, **bounds)

    async def full() -> bool:
        return len(flooded) == 2

    monkeypatch.setattr(repository, "events_between", slow)
    for busy in streams:
        await hub.join(busy, never)
    await eventually(full)
    await hub.join(stream, never)
    await append(database, other_id, new_event(project_id))
    hub.wake(stream.key, 1)
    assert await ids(stream, 1) == [1]
    polling = asyncio.create_task(hub.poll())
    # Nobody says that it has grown.
    await append(database, other_id, new_event(project_id))
    assert await ids(stream, 1) == [2]
    assert len(flooded) == 2
    polling.cancel()
    hub.close()
