"""One stream's queue, and the places there are for streams."""

import asyncio
import uuid

import pytest

from services.notifier.feeds.repository import FeedKey
from services.notifier.settings import NotifierSettings
from services.notifier.streams.connection import Connection
from services.notifier.streams.connections import Connections
from services.notifier.streams.frames import Frame
from services.notifier.streams.response import EventStream
from services.notifier.streams.shutdown import on_stop_signal
from services.notifier.streams.snapshots import UNKNOWN, Snapshots
from shared.auth import ALL_SCOPES, Principal, PrincipalKind, ServiceTokens
from tests.services.notifier.running import Neighbours, Replica
from tests.support.polling import eventually
from tests.support.serving import make_settings

TENANT, PROJECT = uuid.uuid4(), uuid.uuid4()
CALLER = Principal(PrincipalKind.SESSION, "someone", uuid.uuid4(), TENANT, "owner", ALL_SCOPES, uuid.uuid4())


def connection(queue_frames: int = 8) -> Connection:
    return Connection(CALLER, FeedKey(TENANT, PROJECT), queue_frames=queue_frames, now=0, ends_at=1000)


async def test_what_the_client_has_got_already_is_not_written_again() -> None:
    stream = connection()
    stream.cursor = 5
    for sequence in (4, 5, 6, 7):
        stream.offer(Frame(b"%d" % sequence, sequence=sequence))
    assert await stream.next_chunk() == b"67"
    assert stream.cursor == 7
    stream.offer(Frame(b"7", sequence=7))
    waiting = asyncio.create_task(stream.next_chunk())
    await asyncio.sleep(0)
    stream.offer(Frame(b"8", sequence=8))
    assert await waiting == b"8"


async def test_a_slow_client_loses_progress_before_it_loses_the_stream() -> None:
    stream = connection(queue_frames=8)
    for sequence in range(1, 5):
        stream.offer(Frame(b"%d" % sequence, sequence=sequence))
    stream.offer(Frame(b"progress"))
    assert await stream.next_chunk() == b"1234"
    stream.offer(Frame(b"progress"))
    assert await stream.next_chunk() == b"progress"
    for sequence in range(5, 14):
        stream.offer(Frame(b"%d" % sequence, sequence=sequence))
    assert stream.ending == "too slow"
    assert await stream.next_chunk() == b""
    assert stream.cursor == 4


async def test_a_stream_keeps_its_first_reason_and_flushes_what_waits() -> None:
    stream = connection()
    stream.offer(Frame(b"last", sequence=1))
    stream.end("resume")
    stream.end("restarting")
    stream.offer(Frame(b"too late", sequence=2))
    assert await stream.next_chunk() == b"last"
    assert await stream.next_chunk() == b""
    assert stream.ending == "resume"


async def test_other_projects_are_not_shown_to_a_member() -> None:
    stream = connection()
    stream.visible = frozenset({PROJECT})
    stream.offer(Frame(b"other", sequence=1, project_id=uuid.uuid4()))
    stream.offer(Frame(b"mine", sequence=2, project_id=PROJECT))
    stream.offer(Frame(b":all"))
    assert await stream.next_chunk() == b"mine:all"


async def test_a_place_nobody_took_is_given_back(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.notifier.streams.connections._UNSTARTED_SECONDS", 0)
    settings = make_settings(NotifierSettings, {**environment, "QUARRY_NOTIFIER_HEARTBEAT_SECONDS": "0.02"})
    connections = Connections(settings)
    connections.discard(connections.admit(CALLER, FeedKey(TENANT, PROJECT)))
    admitted = connections.admit(CALLER, FeedKey(TENANT, PROJECT))
    assert len(connections) == 1
    tending = asyncio.create_task(connections.tend())

    async def given_back() -> bool:
        return len(connections) == 0

    await eventually(given_back)
    tending.cancel()
    connections.discard(admitted)
    assert len(connections) == 0


async def test_a_stream_without_its_runner_is_a_defect_that_shows() -> None:
    sent: list[str] = []

    async def send(message: object) -> None:
        sent.append(str(message))

    async def receive() -> dict[str, object]:
        raise AssertionError("nothing is to be received")

    async def talk(write: object) -> None:
        raise AssertionError("nothing is to be said")

    stream = EventStream(connection(), talk=talk, hang_up=lambda: None)
    with pytest.raises(KeyError):
        await stream({"type": "http"}, receive, send)


async def test_a_slow_indexing_does_not_hold_a_client_up(replica: Replica, neighbours: Neighbours) -> None:
    """Both share one question; neither waits for its answer."""
    blocked = asyncio.Event()

    class Tokens(ServiceTokens):
        async def token(self, *_: object) -> str:
            await blocked.wait()
            return "never used"

    tokens = Tokens("notifier", "unused", "http://127.0.0.1:1", replica.client)
    snapshots = Snapshots(neighbours.url, tokens, replica.client, seconds=0.1)
    key = FeedKey(TENANT, PROJECT)
    assert list(await asyncio.gather(snapshots.of(key), snapshots.of(key))) == [UNKNOWN, UNKNOWN]


async def test_snapshots_of_a_tenant_with_many_projects_leave_others_their_place(
    replica: Replica, neighbours: Neighbours
) -> None:
    asked = list[uuid.UUID]()

    class Tokens(ServiceTokens):
        async def token(self, _audience: object, tenant_id: uuid.UUID | None) -> str:
            assert tenant_id is not None
            asked.append(tenant_id)
            await asyncio.Event().wait()
            return "never used"

    tokens = Tokens("notifier", "unused", "http://127.0.0.1:1", replica.client)
    snapshots = Snapshots(neighbours.url, tokens, replica.client, seconds=5)
    other = uuid.uuid4()
    keys = [*(FeedKey(TENANT, uuid.uuid4()) for _ in range(20)), FeedKey(other, uuid.uuid4())]
    asking = [asyncio.create_task(snapshots.of(key)) for key in keys]
    try:
        await eventually(lambda: asyncio.sleep(0, other in asked))
        assert 0 < asked.count(TENANT) < 8
    finally:
        for task in (*asking, *snapshots._not_begun.values()):
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def test_signals_are_left_alone_outside_the_main_thread() -> None:
    def enter() -> str:
        with on_stop_signal(lambda: None):
            return "entered"

    assert await asyncio.to_thread(enter) == "entered"
