"""An engine shared over a socket: owners that come late, die, freeze and leave; users that flood and stop."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from services.indexing.analysis import CURRENT
from services.indexing.vectors.embedded import wire
from services.indexing.vectors.embedded.remote_engine import RemoteEngine
from services.indexing.vectors.engine import EngineSearch
from services.indexing.vectors.errors import InvalidPoint, VectorStoreLocked, VectorStoreUnavailable
from services.indexing.vectors.scoped_filters import equals, every
from services.indexing.vectors.store import EmbeddedStore, VectorStore
from tests.services.indexing.vectors.owners import (
    PROGRAM,
    owner_in,
    owner_process,
    running,
    socket_in,
    user_of,
)
from tests.services.indexing.vectors.samples import DIMENSIONS, engine_points, vector_of
from tests.support.polling import eventually

Folders = Callable[[str], Path]


@pytest.fixture
def folder(folders: Folders) -> Path:
    return folders("shared")


async def answers(engine: RemoteEngine) -> bool:
    return await VectorStore(engine, dimensions=DIMENSIONS).healthy()


def search_for(owner: str) -> EngineSearch:
    where = every(equals("tenant_id", owner))
    vector = [float(number) for number in vector_of("salt")]
    return EngineSearch(
        where=where, corpus=where, vector=vector, text="salt", analyzers=[CURRENT], fused=True, limit=10, offset=0
    )


async def test_a_user_starts_without_an_owner_and_finds_it_when_it_comes(folder: Path) -> None:
    user = user_of(folder)
    async with running(user):
        assert not await answers(user)
        with pytest.raises(VectorStoreUnavailable) as away:
            await user.count(every())
        assert "away" in away.value.reason

        async with running(owner_in(folder)):
            await eventually(lambda: answers(user))
            assert await user.count(every()) == 0


async def test_a_call_made_while_the_owner_is_away_waits_for_it_a_while(folder: Path) -> None:
    user, owner = user_of(folder), owner_in(folder)
    async with running(user):
        late = time.monotonic() + 30
        counting = asyncio.create_task(user.call("count", {"where": every()}, late, reconnect_within=30))
        async with running(owner):
            assert await counting == 0


async def test_an_owner_killed_amid_calls_fails_them_and_its_successor_has_what_was_acknowledged(folder: Path) -> None:
    name, acknowledged, failures = str(uuid4()), set[str](), 0
    user = user_of(folder)

    async def write() -> None:
        nonlocal failures
        for _ in range(40):
            batch = engine_points(name, 16)
            try:
                await user.upsert(batch)
            except VectorStoreUnavailable:
                failures += 1
            else:
                acknowledged.update(point["id"] for point in batch)

    async def enough() -> bool:
        return len(acknowledged) >= 320

    async with running(user):
        async with owner_process(folder) as first:
            writing = asyncio.gather(*(write() for _ in range(8)))
            await eventually(enough)
            first.kill()
            await first.wait()
        async with owner_process(folder):
            await writing
            await eventually(lambda: answers(user))
            found = await user.scroll(every(equals("tenant_id", name)), after=None, limit=10_000)

    assert failures > 0, "no write was under way when the owner was killed"
    assert acknowledged <= {record["id"] for record in found}


async def test_a_frozen_owner_is_unhealthy_and_what_was_given_up_meanwhile_is_not_done_later(folder: Path) -> None:
    name = str(uuid4())
    hasty, background = user_of(folder, call_timeout=0.3), user_of(folder)
    async with owner_process(folder) as owner, running(hasty, background):
        await eventually(lambda: answers(hasty))
        await eventually(lambda: answers(background))
        owner.send_signal(signal.SIGSTOP)
        with pytest.raises(VectorStoreUnavailable, match="try again"):
            await hasty.upsert(engine_points(name, 4))
        assert not await answers(hasty)
        owner.send_signal(signal.SIGCONT)

        await eventually(lambda: answers(hasty))
        assert await background.count(every(equals("tenant_id", name))) == 0


async def test_a_restart_of_the_shard_is_not_felt(folder: Path) -> None:
    owner, user = owner_in(folder), user_of(folder)
    async with running(owner, user):
        await user.upsert(engine_points(str(uuid4()), 3))
        connection, shard = user._connection, owner.pid
        assert shard is not None
        os.kill(shard, signal.SIGKILL)

        async def another() -> bool:
            return owner.pid not in (None, shard)

        await eventually(another)
        assert await user.count(every()) == 3
        assert user._connection is connection


async def test_who_stops_leaves_the_owner_and_the_others_alone(folder: Path) -> None:
    owner, leaving, staying = owner_in(folder), user_of(folder), user_of(folder)
    async with running(owner, staying):
        await leaving.start()
        await leaving.upsert(engine_points(str(uuid4()), 2))
        await leaving.stop()
        await leaving.stop()

        assert await staying.count(every()) == await owner.count(every()) == 2
        with pytest.raises(VectorStoreUnavailable):
            await leaving.ping()


async def test_starting_twice_is_a_mistake(folder: Path) -> None:
    user = user_of(folder)
    async with running(user):
        with pytest.raises(RuntimeError):
            await user.start()


async def test_a_search_is_not_stuck_behind_large_batches_of_another(folder: Path) -> None:
    owner, writer, reader = owner_in(folder), user_of(folder), user_of(folder)
    mine, theirs = str(uuid4()), str(uuid4())
    took: list[float] = []
    async with running(owner, writer, reader):
        await reader.upsert(engine_points(mine, 10))
        flood = [asyncio.create_task(writer.upsert(engine_points(theirs, 1000, "flood"))) for _ in range(8)]
        while not all(task.done() for task in flood):
            began = time.monotonic()
            assert len(await reader.search(search_for(mine))) == 10
            took.append(time.monotonic() - began)
        await asyncio.gather(*flood)
        assert await reader.count(every(equals("tenant_id", theirs))) == 8000

    assert len(took) >= 5
    assert sorted(took)[len(took) // 2] < 0.5, took


async def test_the_socket_is_for_its_owner_alone_and_goes_with_it(folder: Path) -> None:
    path = socket_in(folder)
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))

    async with running(owner_in(folder), user := user_of(folder)):
        assert path.stat().st_mode & 0o777 == 0o600
        await user.ping()
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]

    assert not path.exists()


async def test_the_folder_of_the_socket_is_made_for_its_owner_alone(folder: Path) -> None:
    async with running(owner_in(folder)):
        assert socket_in(folder).parent.stat().st_mode & 0o777 == 0o700


async def test_the_socket_of_a_successor_is_left_alone(folder: Path) -> None:
    path = socket_in(folder)
    async with running(owner_in(folder)):
        path.unlink()
        path.write_bytes(b"another's")

    assert path.read_bytes() == b"another's"


async def test_an_owner_that_cannot_listen_does_not_start_and_holds_nothing(folder: Path) -> None:
    socket_in(folder).parent.write_bytes(b"in the way")
    owner = owner_in(folder)
    with pytest.raises(VectorStoreUnavailable) as refused:
        await owner.start()
    assert "cannot listen" in refused.value.reason

    assert owner.pid is None
    store = EmbeddedStore(folder, lock_timeout=0.1)
    await store.start()
    await store.stop()


async def test_a_second_owner_is_told_what_would_help(folder: Path) -> None:
    second = EmbeddedStore(folder, lock_timeout=0.1)
    async with running(owner_in(folder)):
        with pytest.raises(VectorStoreLocked) as refused:
            await second.start()

    for setting in ("VECTORS_LISTEN", "VECTORS_SOCKET", "QDRANT_URL"):
        assert f"QUARRY_INDEXING_{setting}" in refused.value.reason


async def test_users_of_another_model_are_refused(folder: Path) -> None:
    other = user_of(folder, dimensions=8)
    async with running(owner_in(folder), other):
        assert not await answers(other)


async def test_what_does_not_speak_the_protocol_is_no_owner(folder: Path) -> None:
    path = socket_in(folder)
    path.parent.mkdir()
    said: list[bytes] = []

    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said[0])
        writer.close()

    server = await asyncio.start_unix_server(odd, str(path))
    for answer in (b"", b"\xff\xff\xff\xff", wire.HEADER.pack(1) + b"{", wire.encode({"id": 0, "error": "busy"})):
        said[:] = [answer]
        user = user_of(folder)
        async with running(user):
            assert not await answers(user)
    server.close()


async def test_points_too_large_for_one_frame_are_sent_in_several(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "SHARED_MAX_FRAME", 60_000)
    name, user = str(uuid4()), user_of(folder)
    async with running(owner_in(folder), user):
        await user.upsert(engine_points(name, 40))
        assert await user.count(every(equals("tenant_id", name))) == 40

        with pytest.raises(InvalidPoint):
            await user.upsert(engine_points(name, 1, "word " * 20_000))


async def test_an_engine_is_shared_on_the_event_loop_of_production_too(folder: Path) -> None:
    program = PROGRAM.replace("asyncio.run(main())", "import uvloop; uvloop.run(main())")
    user = user_of(folder)
    async with owner_process(folder, program), running(user):
        await eventually(lambda: answers(user))
        await user.upsert(engine_points(str(uuid4()), 100))
        assert await user.count(every()) == 100
