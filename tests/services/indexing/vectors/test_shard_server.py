"""The shard's process, run in this one: the order of answers, upkeep and the end."""

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from services.indexing.vectors.embedded import wire
from services.indexing.vectors.embedded.shard import Shard, ShardLocked, ShardOptions
from services.indexing.vectors.embedded.shard_server import ShardServer
from services.indexing.vectors.engine import INDEXES
from tests.services.indexing.vectors.samples import DIMENSIONS, engine_points

EVERYTHING: dict[str, object] = {"must": []}


def options(path: Path) -> ShardOptions:
    return ShardOptions(
        path=str(path),
        dimensions=DIMENSIONS,
        depth=10,
        indexing_threshold_kb=10_000,
        indexes=dict(INDEXES),
        lock_timeout=0.1,
    )


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    with ours, theirs:
        yield ours, theirs


def ask(ours: socket.socket, id: int, op: str, **args: object) -> None:
    ours.sendall(wire.encode({"id": id, "op": op, "args": args}))


def replies(ours: socket.socket) -> list[wire.Reply]:
    received = b""
    while data := ours.recv(65536):
        received += data
    found: list[wire.Reply] = []
    while received:
        end = wire.HEADER.size + wire.body_length(received[: wire.HEADER.size])
        found.append(orjson.loads(received[wire.HEADER.size : end]))
        received = received[end:]
    return found


def one_point(word: str) -> dict[str, object]:
    (point,) = engine_points(str(uuid4()), 1, word)
    return {**point, "payload": {}}


def test_reads_go_first_but_writes_are_not_starved_and_keep_their_order(
    tmp_path: Path, connection: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = connection
    for number in (1, 2):
        ask(ours, number, "upsert", points=[one_point("a")])
    for number in range(100, 120):
        ask(ours, number, "count", where=EVERYTHING)
    ours.shutdown(socket.SHUT_WR)
    with theirs:
        ShardServer(theirs, Shard(options(tmp_path))).serve()

    answered = [reply["id"] for reply in replies(ours)]

    assert answered == [wire.GREETING, *range(100, 108), 1, *range(108, 116), 2, *range(116, 120)]


def test_an_unknown_operation_is_answered_with_an_error(
    tmp_path: Path, connection: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = connection
    ask(ours, 1, "close")
    ask(ours, 2, "count", where=EVERYTHING)
    ours.shutdown(socket.SHUT_WR)
    with theirs:
        ShardServer(theirs, Shard(options(tmp_path))).serve()

    answers = {reply["id"]: reply for reply in replies(ours)}

    assert "unknown operation" in answers[1]["error"]
    assert answers[2]["ok"] == 0


def test_a_caller_that_vanished_does_not_lose_its_writes(
    tmp_path: Path, connection: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = connection
    ask(ours, 1, "upsert", points=[one_point("a")])
    ours.close()
    with theirs:
        ShardServer(theirs, Shard(options(tmp_path))).serve()

    shard = Shard(options(tmp_path))
    assert shard.count(EVERYTHING) == 1
    shard.close()


def test_upkeep_happens_when_idle_and_its_failure_ends_nothing(
    tmp_path: Path, connection: tuple[socket.socket, socket.socket], capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = connection
    done: list[str] = []
    optimized = threading.Event()

    class Failing(Shard):
        def flush(self) -> None:
            done.append("flush")
            raise OSError("no space left")

        def optimize(self) -> None:
            done.append("optimize")
            super().optimize()
            optimized.set()

    shard = Failing(options(tmp_path))
    serving = threading.Thread(target=ShardServer(theirs, shard).serve)
    serving.start()
    point = one_point("a")
    ask(ours, 1, "upsert", points=[{**point, "id": str(uuid4())} for _ in range(1000)])
    assert optimized.wait(20)
    ask(ours, 2, "count", where=EVERYTHING)
    ours.shutdown(socket.SHUT_WR)
    serving.join(20)
    theirs.close()

    assert [reply["ok"] for reply in replies(ours)][1:] == [None, 1000]
    assert done == ["flush", "optimize"]
    assert "flush failed: no space left" in capsys.readouterr().err


def test_an_explicit_flush_and_optimisation_leave_nothing_to_do(
    tmp_path: Path, connection: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = connection
    ask(ours, 1, "upsert", points=[one_point("a")])
    ask(ours, 2, "delete", where=EVERYTHING)
    ask(ours, 3, "flush")
    ask(ours, 4, "optimize")
    ours.shutdown(socket.SHUT_WR)
    with theirs:
        ShardServer(theirs, Shard(options(tmp_path))).serve()

    assert [reply["ok"] for reply in replies(ours)][1:] == [None, 1, None, None]


def test_a_lock_held_by_another_is_waited_for_and_then_refused(tmp_path: Path) -> None:
    shard = Shard(options(tmp_path))
    with pytest.raises(ShardLocked):
        Shard(options(tmp_path))
    shard.close()

    Shard(options(tmp_path)).close()


def test_missing_indexes_are_made_when_a_shard_is_opened(tmp_path: Path) -> None:
    older = options(tmp_path)
    older["indexes"] = {"tenant_id": "uuid"}
    Shard(older).close()

    Shard(options(tmp_path)).close()

    with pytest.raises(ValueError, match="unknown index"):
        Shard({**options(tmp_path), "indexes": {"other": "magic"}})


async def test_a_process_whose_parent_is_gone_ends_at_once(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.indexing.vectors.embedded.shard_server",
        "0",
        str(os.getpid() + 1),
        orjson.dumps(options(tmp_path)).decode(),
        cwd=Path(__file__).parents[4],
        stderr=asyncio.subprocess.PIPE,
    )
    _, error = await asyncio.wait_for(process.communicate(), 30)

    assert b"the parent is gone" in error
    assert process.returncode == 1


def test_a_store_made_before_an_index_gets_it_at_the_next_start(tmp_path: Path) -> None:
    before: dict[str, str] = {field: kind for field, kind in INDEXES.items() if field not in ("version", "chunk_index")}
    shard = Shard({**options(tmp_path), "indexes": before})
    shard.upsert([one_point("old")])
    shard.close()
    shard = Shard(options(tmp_path))
    assert shard._shard.info().payload_schema.keys() == INDEXES.keys()
    assert shard.count(where=EVERYTHING) == 1
    shard.close()
