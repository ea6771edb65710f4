"""Joining a feed: where what was read ends and what is live begins."""

import asyncio
import uuid

from services.notifier.feeds.repository import FeedKey
from services.notifier.streams.connection import Connection
from services.notifier.streams.hub import Hub
from shared.auth import ALL_SCOPES, Principal, PrincipalKind
from shared.tenancy import Database
from tests.services.notifier.feeding import append, new_event


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
