"""The owner's socket, spoken to byte by byte: what breaks the protocol, floods, reads nothing, leaves."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.indexing.vectors.embedded import engine_server, wire
from services.indexing.vectors.embedded.engine_server import EngineServer
from services.indexing.vectors.errors import VectorStoreUnavailable
from tests.support.polling import eventually


class Recorder:
    """Notes what is forwarded, in order, and answers once the gate is open."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.gate = asyncio.Event()
        self.answer: object = None

    async def call(self, op: str, args: dict[str, Any], until: float) -> Any:
        self.calls.append(args.get("name", op))
        await self.gate.wait()
        if op == "delete":
            raise VectorStoreUnavailable("the shard's process is restarting")
        return self.answer

    async def forwarded(self, count: int) -> None:
        async def all_there() -> bool:
            return len(self.calls) >= count

        await eventually(all_there)


class Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def ask(self, id: int, op: str, *, seconds: float = 30.0, **args: object) -> None:
        self.writer.write(wire.encode({"id": id, "op": op, "args": args, "until": time.monotonic() + seconds}))

    async def hear(self) -> wire.Reply:
        async with asyncio.timeout(10):
            reply: wire.Reply = orjson.loads(await wire.read_body(self.reader))
        return reply

    async def ended(self) -> bool:
        async with asyncio.timeout(10):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True


@pytest.fixture
def path(folders: Callable[[str], Path]) -> Path:
    return folders("serving") / "s"


@asynccontextmanager
async def served(engine: Recorder, path: Path, connections: int = 8) -> AsyncIterator[EngineServer]:
    server = EngineServer(engine, path, dimensions=3, connections=connections)
    await server.start()
    try:
        yield server
    finally:
        engine.gate.set()
        await server.stop()


@asynccontextmanager
async def calling(path: Path) -> AsyncIterator[Caller]:
    caller = Caller(*await asyncio.open_unix_connection(str(path)))
    try:
        yield caller
    finally:
        caller.writer.close()


GREETING = {"id": wire.GREETING, "ok": {"protocol": wire.SHARED_PROTOCOL, "dimensions": 3}}


def framed(body: bytes) -> bytes:
    return wire.HEADER.pack(len(body)) + body


@pytest.mark.parametrize(
    "sent",
    [
        framed(b"not json"),
        framed(b"[]"),
        framed(b'{"id": 1, "op": "ping", "args": {}}'),
        framed(b'{"id": 0, "op": "ping", "args": {}, "until": 1}'),
        framed(b'{"id": "1", "op": "ping", "args": {}, "until": 1}'),
        framed(b'{"id": 1, "op": 2, "args": {}, "until": 1}'),
        framed(b'{"id": 1, "op": "ping", "args": [], "until": 1}'),
        framed(b'{"id": 1, "op": "ping", "args": {}, "until": null}'),
        framed(b'{"id": 1, "op": "ping", "args": {}, "until": true}'),
        wire.HEADER.pack(wire.SHARED_MAX_FRAME + 1),
    ],
)
async def test_a_malformed_frame_ends_its_connection_alone(path: Path, sent: bytes) -> None:
    engine = Recorder()
    engine.gate.set()
    async with served(engine, path), calling(path) as broken, calling(path) as sound:
        assert await broken.hear() == await sound.hear() == GREETING
        broken.writer.write(sent)
        assert await broken.ended()

        sound.ask(1, "ping")
        assert await sound.hear() == {"id": 1, "ok": None}
    assert engine.calls == ["ping"]


async def test_there_are_only_so_many_connections(path: Path) -> None:
    async with served(Recorder(), path, connections=1):
        async with calling(path) as first:
            assert await first.hear() == GREETING
            async with calling(path) as second:
                refused = await second.hear()
                assert (refused["id"], refused["error"]) == (wire.GREETING, "too many connections")
                assert await second.ended()

        async def welcome() -> bool:
            async with calling(path) as another:
                return await another.hear() == GREETING

        await eventually(welcome)


async def test_a_flood_is_forwarded_a_few_at_a_time_and_others_have_their_turn(path: Path) -> None:
    engine = Recorder()
    async with served(engine, path), calling(path) as flood, calling(path) as other:
        for number in range(1, 31):
            flood.ask(number, "upsert", name=f"flood {number}")
        await engine.forwarded(8)
        other.ask(1, "upsert", name="other")
        other.ask(2, "search", name="a search")
        await engine.forwarded(9)
        assert engine.calls == [*(f"flood {number}" for number in range(1, 9)), "a search"]

        engine.gate.set()
        assert {(await other.hear()).get("id") for _ in range(3)} == {0, 1, 2}
        await engine.forwarded(32)
    assert engine.calls.index("other") <= 10
    assert [name for name in engine.calls if "flood" in name] == [f"flood {number}" for number in range(1, 31)]


async def test_no_caller_has_more_than_so_much_under_way(path: Path) -> None:
    engine = Recorder()
    async with served(engine, path) as server, calling(path) as caller:
        for number in range(1, 201):
            caller.ask(number, "search")
        await engine.forwarded(32)
        (connection,) = server._callers

        async def full() -> bool:
            return len(connection._under_way) == 64

        await eventually(full)
        engine.gate.set()
        assert {(await caller.hear())["id"] for _ in range(201)} == set(range(201))


async def test_what_waited_for_a_caller_that_left_is_not_done(path: Path) -> None:
    engine = Recorder()
    async with served(engine, path) as server:
        async with calling(path) as leaving:
            for number in range(1, 21):
                leaving.ask(number, "upsert", name=f"leaving {number}")
            await engine.forwarded(8)

        async def gone() -> bool:
            return not server._callers

        await eventually(gone)
        engine.gate.set()
        async with calling(path) as staying:
            staying.ask(1, "upsert", name="staying")
            assert [(await staying.hear())["id"] for _ in range(2)] == [0, 1]
    assert engine.calls == [*(f"leaving {number}" for number in range(1, 9)), "staying"]


async def test_who_stops_serving_still_answers_what_is_under_way(path: Path) -> None:
    engine = Recorder()
    async with served(engine, path) as server, calling(path) as caller:
        caller.ask(1, "upsert")
        await engine.forwarded(1)
        stopping = asyncio.create_task(server.stop())

        async def away() -> bool:
            return not path.exists()

        await eventually(away)
        caller.ask(2, "upsert")  # too late, and no reason not to answer the first
        engine.gate.set()
        await stopping
        assert [(await caller.hear())["id"] for _ in range(2)] == [0, 1]
        assert await caller.ended()
        await server.stop()


async def test_a_caller_that_reads_nothing_is_cut_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_server, "_SEND_SECONDS", 0.2)
    engine = Recorder()
    engine.answer = "x" * 2**20
    engine.gate.set()
    async with served(engine, path) as server, calling(path) as deaf:
        for number in range(1, 65):
            deaf.ask(number, "search")
        await engine.forwarded(64)

        async def cut_off() -> bool:
            return not server._callers

        await eventually(cut_off)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            for _ in range(65):
                await deaf.hear()


async def test_a_failure_and_an_answer_too_large_are_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Recorder()
    engine.gate.set()
    async with served(engine, path), calling(path) as caller:
        assert await caller.hear() == GREETING
        caller.ask(1, "delete")
        assert await caller.hear() == {"id": 1, "error": "the shard's process is restarting", "kind": "failed"}

        monkeypatch.setattr(wire, "SHARED_MAX_FRAME", 1000)
        engine.answer = "x" * 1000
        caller.ask(2, "search")
        assert "a frame of" in (await caller.hear())["error"]
