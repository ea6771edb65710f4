"""The embedded engine under kill -9, a second opener, hangs and restarts."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from services.indexing.vectors.embedded.engine import EmbeddedEngine
from services.indexing.vectors.errors import VectorStoreLocked, VectorStoreUnavailable
from services.indexing.vectors.points import VectorQuery
from services.indexing.vectors.scoped_filters import equals, every
from services.indexing.vectors.store import EmbeddedStore, VectorStore
from tests.services.indexing.vectors.samples import DIMENSIONS, chunk, engine_points

ROOT = Path(__file__).parents[4]


def engine_at(path: Path, lock_timeout: float = 5.0, call_timeout: float = 10.0) -> EmbeddedEngine:
    return EmbeddedEngine(
        path,
        dimensions=DIMENSIONS,
        lock_timeout=lock_timeout,
        call_timeout=call_timeout,
    )


@asynccontextmanager
async def running(engine: EmbeddedEngine) -> AsyncIterator[EmbeddedEngine]:
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, "did not become true in time"
        await asyncio.sleep(0.02)


def of_owner(owner: str) -> dict[str, object]:
    return dict(equals("tenant_id", owner))


def kill(engine: EmbeddedEngine) -> int:
    assert engine.pid is not None
    pid = engine.pid
    os.kill(pid, signal.SIGKILL)
    return pid


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


async def stored(engine: EmbeddedEngine, owner: str) -> set[str]:
    found: set[str] = set()
    after: UUID | None = None
    while True:
        page = await engine.scroll(every(equals("tenant_id", owner)), after=after, limit=500)
        found |= {record["id"] for record in page}
        if len(page) < 500:
            return found
        after = UUID(page[-1]["id"])


async def answers(engine: EmbeddedEngine) -> bool:
    try:
        await engine.ping()
    except VectorStoreUnavailable:
        return False
    return True


async def test_what_was_acknowledged_survives_kill_9_amid_writing(engine: EmbeddedEngine) -> None:
    owner, acknowledged, failures = str(uuid4()), set[str](), 0

    async def write(rounds: int) -> None:
        nonlocal failures
        for _ in range(rounds):
            batch = engine_points(owner, 16)
            try:
                await engine.upsert(batch)
            except VectorStoreUnavailable:
                failures += 1
            else:
                acknowledged.update(point["id"] for point in batch)

    for _ in range(3):
        writing = asyncio.gather(*(write(12) for _ in range(8)))
        expected = len(acknowledged) + 320
        await until(lambda expected=expected: _true(len(acknowledged) >= expected))  # type: ignore[misc]  # binds the value
        kill(engine)
        await writing
        await until(lambda: answers(engine))

    assert failures > 0, "no write was under way when the process was killed"
    assert acknowledged <= await stored(engine, owner)


async def _true(value: bool) -> bool:
    return value


async def test_a_call_in_flight_fails_when_the_process_dies_and_the_next_one_works(engine: EmbeddedEngine) -> None:
    assert engine.pid is not None
    first = engine.pid
    os.kill(first, signal.SIGSTOP)
    calls = [asyncio.create_task(engine.ping()) for _ in range(3)]
    await asyncio.sleep(0)
    kill(engine)

    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, VectorStoreUnavailable)
    await until(lambda: answers(engine))
    assert engine.pid not in (None, first)


async def test_a_call_made_during_a_restart_waits_for_it(engine: EmbeddedEngine) -> None:
    first = kill(engine)
    await until(lambda: _true(engine.pid != first))

    assert await engine.count(every()) == 0


async def test_the_shard_ends_with_a_parent_that_was_killed_and_its_points_stay(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path; from uuid import UUID\n"
        "from services.indexing.vectors.store import EmbeddedStore\n"
        "from tests.services.indexing.vectors.samples import chunk\n"
        "async def main():\n"
        "    store = EmbeddedStore(Path(sys.argv[1])); await store.start()\n"
        "    await store.project(UUID(int=1), UUID(int=2)).upsert([chunk('salt')])\n"
        "    print(store.engine.pid, flush=True); await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await asyncio.wait_for(parent.stdout.readline(), 30))
    parent.kill()
    await parent.wait()

    store = EmbeddedStore(tmp_path)
    await store.start()
    assert not alive(child)
    assert await store.project(UUID(int=1), UUID(int=2)).count() == 1
    await store.stop()


async def test_a_second_opener_is_refused_and_welcome_once_the_first_is_gone(tmp_path: Path) -> None:
    second = engine_at(tmp_path, lock_timeout=0.1)
    async with running(engine_at(tmp_path)) as first:
        with pytest.raises(VectorStoreLocked) as refused:
            await second.start()
        assert "another process" in refused.value.reason
        await first.ping()

    async with running(second):
        await second.ping()


async def test_a_second_opener_waits_for_one_that_is_leaving(tmp_path: Path) -> None:
    first, second = engine_at(tmp_path), engine_at(tmp_path, lock_timeout=10.0)
    await first.start()
    opening = asyncio.create_task(second.start())
    await first.ping()
    assert not opening.done()

    await first.stop()
    await opening

    await second.ping()
    await second.stop()


async def test_points_are_there_after_a_clean_stop_and_no_process_is(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    await store.start()
    pid = store.engine.pid
    project = store.project(uuid4(), uuid4())
    await project.upsert([chunk("salt lake")])
    await store.stop()
    await store.stop()
    assert pid is not None
    assert not alive(pid)

    await store.start()
    assert len(await project.search(VectorQuery(mode="keyword", text="lake"))) == 1
    await store.stop()


async def test_what_is_under_way_is_finished_before_stopping(tmp_path: Path) -> None:
    engine, owner = engine_at(tmp_path), str(uuid4())
    await engine.start()
    writing = asyncio.create_task(engine.upsert(engine_points(owner, 64)))
    await asyncio.sleep(0)
    await engine.stop()
    await writing

    async with running(engine):
        assert len(await stored(engine, owner)) == 64


async def test_a_store_that_is_not_started_is_unavailable(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)

    assert not await store.healthy()
    with pytest.raises(VectorStoreUnavailable):
        await store.project(uuid4(), uuid4()).count()


async def test_starting_twice_is_a_mistake(engine: EmbeddedEngine) -> None:
    with pytest.raises(RuntimeError):
        await engine.start()


async def test_a_process_that_hangs_is_unhealthy_until_it_goes_on(tmp_path: Path) -> None:
    async with running(engine_at(tmp_path, call_timeout=0.3)) as engine:
        store = VectorStore(engine, dimensions=DIMENSIONS)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGSTOP)
        with pytest.raises(VectorStoreUnavailable, match="try again"):
            await engine.count(every())
        assert not await store.healthy()
        os.kill(engine.pid, signal.SIGCONT)

        await until(store.healthy)


async def test_signals_for_the_whole_group_do_not_end_the_shard(engine: EmbeddedEngine) -> None:
    first = engine.pid
    assert first is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(first, number)

    await engine.ping()
    assert engine.pid == first


async def test_a_shard_of_another_size_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with running(engine_at(tmp_path)):
        pass
    other = EmbeddedStore(tmp_path, dimensions=8)

    with pytest.raises(VectorStoreUnavailable) as refused:
        await other.start()
    assert "384" in refused.value.reason


async def test_a_damaged_shard_is_refused_and_taken_back_once_repaired(tmp_path: Path) -> None:
    async with running(engine_at(tmp_path)) as engine:
        settings = tmp_path / "shard" / "edge_config.json"
        whole = settings.read_bytes()
        settings.write_bytes(b"{")
        kill(engine)
        with pytest.raises(VectorStoreUnavailable):
            await engine_at(tmp_path).start()
        assert not await answers(engine)

        settings.write_bytes(whole)
        await until(lambda: answers(engine))


async def test_a_shard_half_made_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "shard.new" / "segments").mkdir(parents=True)

    async with running(engine_at(tmp_path)) as engine:
        assert await engine.count(every()) == 0


async def test_a_program_that_cannot_start_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(VectorStoreUnavailable) as failed:
        await engine_at(tmp_path).start()
    assert "cannot start" in failed.value.reason


async def test_a_process_that_ends_before_it_serves_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(VectorStoreUnavailable) as failed:
        await engine_at(tmp_path).start()
    assert "did not come up" in failed.value.reason


async def test_a_condition_the_engine_does_not_know_is_an_error_and_never_ignored(engine: EmbeddedEngine) -> None:
    key = {"key": "facts"}
    conditions: list[dict[str, object]] = [
        {"nonsense": []},
        {"must": [], "other": []},
        {"should": []},
        {**key, "match": {"value": True}},
        {**key, "match": {"value": 1.5}},
        {**key, "match": {"any": []}},
        {**key, "match": {"prefix": "a", "value": "b"}},
        {**key, "range": {}},
        {**key, "range": {"between": 1}},
    ]
    for unknown in conditions:
        with pytest.raises(VectorStoreUnavailable) as failed:
            await engine.count(unknown)  # type: ignore[arg-type]  # wrong on purpose
        assert "ValueError" in failed.value.reason
    await engine.ping()


async def test_a_wiped_store_is_empty(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    await store.start()
    for _ in range(2):
        await store.project(uuid4(), uuid4()).upsert([chunk(), chunk()])

    assert await store.wipe() == 4
    assert await store.tally() == []
    await store.stop()


async def test_a_cancelled_call_does_not_disturb_the_others(engine: EmbeddedEngine) -> None:
    owner = str(uuid4())
    calls = [asyncio.create_task(engine.upsert(engine_points(owner, 8))) for _ in range(6)]
    await asyncio.sleep(0)
    calls[0].cancel()
    await asyncio.gather(*calls[1:])
    with pytest.raises(asyncio.CancelledError):
        await calls[0]

    assert await engine.count(every(equals("tenant_id", owner))) >= 40
