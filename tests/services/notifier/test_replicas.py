"""Several replicas, lost announcements, slow clients, outages."""

import asyncio
import socket
import uuid
from urllib.parse import urlsplit

import aiohttp
import orjson
import pytest
from redis.asyncio import Redis

from services.notifier.feeds import announcements, repository
from services.notifier.feeds.announcements import Announcer
from services.notifier.feeds.repository import FeedKey
from services.notifier.feeds.service import Announcement
from services.notifier.streams.frames import Frame
from shared.background import run_in_background
from shared.redis_clients import command_client
from shared.tenancy import Database
from tests.services.notifier.feeding import append, new_event, uploaded
from tests.services.notifier.running import Neighbours, Publish, Replica, Replicas
from tests.support.polling import eventually


async def test_every_replica_tells_what_any_has_appended(
    replica: Replica, replicas: Replicas, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish
) -> None:
    project_id = neighbours.add_project()
    async with (
        replicas(poll_seconds=600) as second,
        replica.listen(tenant_id, project_id) as here,
        second.listen(tenant_id, project_id) as there,
    ):
        await here.live()
        await there.live()
        for _ in range(10):
            await publish(tenant_id, uploaded(project_id))
        expected = [str(n) for n in range(1, 11)]
        assert [block.id for block in await here.durable(10)] == expected
        assert [block.id for block in await there.durable(10)] == expected
        assert [block.data for block in here.blocks if block.id and block.event] == [
            block.data for block in there.blocks if block.id and block.event
        ]


async def test_any_replica_resumes_any_client(
    replica: Replica, replicas: Replicas, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish
) -> None:
    project_id = neighbours.add_project()
    seen: list[str | None] = []
    async with replicas(poll_seconds=600) as second:
        feeding = asyncio.create_task(_publish_slowly(publish, tenant_id, project_id, 30))
        for turn in range(6):
            at = (replica, second)[turn % 2]
            async with at.listen(tenant_id, project_id, last_event_id=len(seen)) as stream:
                seen.extend(block.id for block in await stream.durable(5))
        await feeding
    assert seen == [str(n) for n in range(1, 31)]


async def _publish_slowly(publish: Publish, tenant_id: uuid.UUID, project_id: uuid.UUID, count: int) -> None:
    for _ in range(count):
        await publish(tenant_id, uploaded(project_id))
        await asyncio.sleep(0.01)


async def test_the_poll_finds_what_nobody_announced(
    replicas: Replicas, database: Database, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    project_id = neighbours.add_project()
    async with (
        replicas(poll_seconds=0.1) as replica,
        replica.listen(tenant_id, project_id) as stream,
        replica.listen(tenant_id) as wide,
    ):
        await stream.live()
        await wide.live()
        for _ in range(3):
            await append(database, tenant_id, new_event(project_id))
        assert [block.id for block in await stream.durable(3)] == ["1", "2", "3"]
        assert [block.id for block in await wide.durable(3)] == ["1", "2", "3"]


async def test_the_poll_survives_an_outage(
    replicas: Replicas,
    database: Database,
    neighbours: Neighbours,
    tenant_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project_id = neighbours.add_project()
    failures = [OSError("away"), OSError("away")]
    ask = repository.heads

    async def flaky(*arguments: object) -> object:
        if failures:
            raise failures.pop()
        return await ask(*arguments)  # type: ignore[arg-type]  # passed on as they came

    async with replicas(poll_seconds=0.1) as replica, replica.listen(tenant_id, project_id) as stream:
        await stream.live()
        monkeypatch.setattr(repository, "heads", flaky)

        async def met() -> bool:
            return not failures

        await eventually(met)
        await append(database, tenant_id, new_event(project_id))
        assert (await stream.event()).id == "1"


async def test_an_outage_of_postgres_delays_events_and_loses_none(
    replica: Replica,
    neighbours: Neighbours,
    tenant_id: uuid.UUID,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project_id = neighbours.add_project()
    failures = [OSError("away"), OSError("away")]
    read = repository.events_between

    async def flaky(*arguments: object, **options: object) -> object:
        if failures:
            raise failures.pop()
        return await read(*arguments, **options)  # type: ignore[arg-type]  # passed on as they came

    async with replica.listen(tenant_id, project_id) as stream:
        await stream.live()
        monkeypatch.setattr(repository, "events_between", flaky)
        await append(database, tenant_id, new_event(project_id))
        replica.streaming.hub.wake(FeedKey(tenant_id, project_id), 1)
        assert (await stream.event()).id == "1"
    assert failures == []


async def test_an_outage_during_replay_ends_the_stream_cleanly(
    replica: Replica,
    database: Database,
    neighbours: Neighbours,
    tenant_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project_id = neighbours.add_project()
    await append(database, tenant_id, new_event(project_id))

    async def away(*_arguments: object, **_options: object) -> object:
        raise OSError("away")

    with monkeypatch.context() as patch:
        patch.setattr(repository, "events_between", away)
        async with replica.listen(tenant_id, project_id, last_event_id=0) as stream:
            assert (await stream.end())[-1].comments == ["interrupted"]
    async with replica.listen(tenant_id, project_id, last_event_id=0) as stream:
        assert (await stream.event()).id == "1"


async def test_a_burst_longer_than_the_queue_reaches_a_client_that_keeps_up(
    replicas: Replicas, database: Database, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    project_id = neighbours.add_project()
    async with replicas(queue_frames=100, poll_seconds=0.2) as replica, replica.listen(tenant_id, project_id) as stream:
        await stream.live()
        async with database.tenant(tenant_id) as session:
            for _ in range(400):
                sequence, tenant_sequence = await repository.next_sequences(session, project_id)
                await repository.add(session, new_event(project_id), sequence=sequence, tenant_sequence=tenant_sequence)
        assert [block.id for block in await stream.durable(400)] == [str(n) for n in range(1, 401)]


async def test_trimming_under_a_live_stream_ends_it_and_a_reset_follows(
    replica: Replica, database: Database, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    project_id = neighbours.add_project()
    key = FeedKey(tenant_id, project_id)
    async with replica.listen(tenant_id, project_id) as stream:
        await stream.live()
        for _ in range(5):
            await append(database, tenant_id, new_event(project_id))
        async with database.tenant(tenant_id) as session:
            await repository.drop_until(session, project_id, floor=3)
        replica.streaming.hub.wake(key, 5)
        assert (await stream.end())[-1].comments == ["history was trimmed"]
    async with replica.listen(tenant_id, project_id, last_event_id=stream.last_event_id) as stream:
        assert (await stream.event()).event == "reset"


async def test_a_client_that_does_not_read_is_cut_off_and_no_other(
    replicas: Replicas, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    project_id = neighbours.add_project()
    key = FeedKey(tenant_id, project_id)
    async with replicas(queue_frames=8, send_seconds=0.5) as replica, replica.listen(tenant_id, project_id) as good:
        await good.live()
        stuck = await _connect_and_never_read(replica, tenant_id, project_id)
        connections = replica.streaming.connections
        await eventually(lambda: _count_is(replica, 2))
        channel = replica.streaming.hub.channel(key)
        assert channel is not None
        await eventually(lambda: _has_subscribers(replica, key, 2))
        for number in range(1, 101):
            wire = b"id: %d\nevent: project.updated\ndata: %s\n\n" % (number, orjson.dumps("x" * 50_000))
            channel.show(Frame(wire, sequence=number))
            assert (await good.event()).id == str(number)
        await eventually(lambda: _count_is(replica, 1))
        assert len(connections.of_tenant(tenant_id)) == 1
        stuck.close()


async def _has_subscribers(replica: Replica, key: FeedKey, count: int) -> bool:
    channel = replica.streaming.hub.channel(key)
    return channel is not None and len(channel.subscribers) == count


async def _count_is(replica: Replica, count: int) -> bool:
    return len(replica.streaming.connections) == count


async def _connect_and_never_read(replica: Replica, tenant_id: uuid.UUID, project_id: uuid.UUID) -> socket.socket:
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.setblocking(False)
    address = urlsplit(replica.url)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(stuck, (address.hostname, address.port))
    lines = [f"GET /v1/projects/{project_id}/events HTTP/1.1", "Host: notifier"]
    lines += [f"{name}: {value}" for name, value in replica.headers(tenant_id).items()]
    await loop.sock_sendall(stuck, ("\r\n".join(lines) + "\r\n\r\n").encode())
    return stuck


async def test_a_slow_client_that_recovers_resumes_without_a_gap(
    replicas: Replicas, database: Database, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    project_id = neighbours.add_project()
    async with replicas(queue_frames=8, poll_seconds=600) as replica, replica.listen(tenant_id, project_id) as stream:
        await stream.live()
        (connection,) = replica.streaming.connections.of_tenant(tenant_id)
        for number in range(1, 20):
            connection.offer(Frame(b"id: %d\nevent: project.updated\ndata: {}\n\n" % number, sequence=number))
        assert (await stream.end())[-1].comments == ["too slow"]
        assert stream.last_event_id == "0"


async def test_announcements_are_dropped_while_redis_is_away() -> None:
    redis = command_client("redis://127.0.0.1:1/0")
    told: list[tuple[FeedKey, int]] = []
    announcer = Announcer(redis, lambda key, event: told.append((key, event.sequence)), lambda *_: None)
    tenant_id, project_id = uuid.uuid4(), uuid.uuid4()

    async def dropped() -> bool:
        return announcer.waiting == 0

    async with run_in_background(announcer.run, name="announcements") as task:
        announcer.announce(Announcement(tenant_id, project_id, 3, 5), new_event(project_id))
        assert told == [(FeedKey(tenant_id, project_id), 3), (FeedKey(tenant_id, tenant_id), 5)]
        await eventually(dropped)
        assert not task.done()
    await redis.aclose()


async def test_malformed_announcements_are_ignored(
    replica: Replica,
    neighbours: Neighbours,
    tenant_id: uuid.UUID,
    database: Database,
    redis_client: Redis,
) -> None:
    project_id = neighbours.add_project()
    async with replica.listen(tenant_id, project_id) as stream:
        await stream.live()
        for raw in (b"{", b"[]", b"{}", b'{"tenant_id": 1}', b'{"tenant_id": "x"}'):
            await redis_client.xadd(announcements.STREAM, {announcements.FIELD: raw})
        await append(database, tenant_id, new_event(project_id))
        said = Announcement(tenant_id, project_id, 10**9, 10**9)
        await redis_client.xadd(announcements.STREAM, {announcements.FIELD: orjson.dumps(said)})
        assert (await stream.event()).id == "1"


async def test_readiness_says_which_reader_has_stopped(replicas: Replicas) -> None:
    async with replicas() as replica, aiohttp.ClientSession() as client:
        async with client.get(f"{replica.url}/readyz") as answer:
            body = await answer.json()
        assert answer.status == 200
        assert {name for name in body["checks"] if name.startswith("following")} == {
            "following notifier.feeds",
            "following events.progress",
            "following events.identity",
            "following events.projects",
        }
