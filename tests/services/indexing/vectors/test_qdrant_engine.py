"""The engine of a Qdrant server that comes late, dies, freezes, refuses, loses everything or is too old."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from qdrant_client import AsyncQdrantClient, models

from services.indexing.analysis import CURRENT
from services.indexing.vectors.engine import INDEXES, EngineSearch
from services.indexing.vectors.errors import VectorStoreUnavailable
from services.indexing.vectors.points import VectorQuery
from services.indexing.vectors.qdrant.engine import QdrantEngine
from services.indexing.vectors.scoped_filters import equals, every
from services.indexing.vectors.store import VectorStore
from tests.services.indexing.vectors.owners import ROOT
from tests.services.indexing.vectors.samples import DIMENSIONS, chunk, engine_points, vector_of
from tests.support.polling import eventually
from tests.support.qdrant_process import KEY, Address, QdrantProcess

Folders = Callable[[str], Path]


@pytest.fixture(scope="module")
async def server(folders: Folders) -> AsyncIterator[QdrantProcess]:
    """One for all tests here, each with a collection of its own."""
    async with QdrantProcess.running(folders("qdrant")) as running:
        yield running


@pytest.fixture
async def broken(server: QdrantProcess) -> AsyncIterator[QdrantProcess]:
    """The same, to be broken: the next test finds it whole."""
    whole = server.version
    yield server
    if server.alive and server.version == whole:
        server.send(signal.SIGCONT)
    else:
        await server.kill()
        server.version = whole
        await server.start()


@pytest.fixture
def name() -> str:
    """A collection of the test's own."""
    return f"test-{uuid4()}"


@asynccontextmanager
async def started(*engines: QdrantEngine) -> AsyncIterator[None]:
    for engine in engines:
        await engine.start()
    try:
        yield
    finally:
        for engine in engines:
            await engine.stop()


async def healthy(engine: QdrantEngine) -> bool:
    return await VectorStore(engine, dimensions=DIMENSIONS).healthy()


async def reason_of(engine: QdrantEngine) -> str:
    """Why it is away, once it says something of use."""

    async def said() -> str:
        with pytest.raises(VectorStoreUnavailable) as away:
            await engine.ping()
        return "" if "reached yet" in away.value.reason else str(away.value.reason)

    return await eventually(said)


def search_for(owner: str) -> EngineSearch:
    where = every(equals("tenant_id", owner))
    vector = [float(number) for number in vector_of("salt")]
    return EngineSearch(
        where=where, corpus=where, vector=vector, text="salt", analyzers=[CURRENT], fused=True, limit=10, offset=0
    )


@asynccontextmanager
async def client_of(address: Address) -> AsyncIterator[AsyncQdrantClient]:
    """As another program would use it."""
    engine = address.engine("another")
    await engine.start()
    assert engine._client is not None
    try:
        yield engine._client
    finally:
        await engine.stop()


async def test_the_collection_is_made_for_tenants(server: QdrantProcess, name: str) -> None:
    async with started(engine := server.address.engine(name)):
        await eventually(lambda: healthy(engine))
        async with client_of(server.address) as client:
            info = await client.get_collection(name)

    assert (info.config.hnsw_config.m, info.config.hnsw_config.payload_m) == (0, 16)
    assert info.payload_schema.keys() == INDEXES.keys()
    tenant, project = (info.payload_schema[field].params for field in ("tenant_id", "project_id"))
    assert isinstance(tenant, models.UuidIndexParams)
    assert isinstance(project, models.UuidIndexParams)
    assert (tenant.is_tenant, tenant.enable_hnsw) == (True, True)
    assert (project.is_tenant, project.enable_hnsw) == (False, True)
    facts = info.payload_schema["facts"].params
    assert isinstance(facts, models.KeywordIndexParams)
    assert (facts.prefix, facts.enable_hnsw) == (True, False)


async def test_processes_that_start_at_once_make_one_collection(server: QdrantProcess, name: str) -> None:
    owner = str(uuid4())
    engines = [server.address.engine(name) for _ in range(6)]
    async with started(*engines):
        await asyncio.gather(*(engine.upsert(engine_points(owner, 2)) for engine in engines))
        assert await engines[0].count(every()) == 12


async def test_indexes_that_a_killed_process_left_out_are_made(server: QdrantProcess, name: str) -> None:
    async with client_of(server.address) as client:
        await client.create_collection(
            name,
            vectors_config={"dense": models.VectorParams(size=DIMENSIONS, distance=models.Distance.COSINE)},
            sparse_vectors_config={"keywords": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        )
        async with started(engine := server.address.engine(name)):
            await eventually(lambda: healthy(engine))
        assert (await client.get_collection(name)).payload_schema.keys() == INDEXES.keys()


async def test_a_collection_of_something_else_is_not_touched(server: QdrantProcess, name: str) -> None:
    async with client_of(server.address) as client:
        await client.create_collection(
            name, vectors_config={"dense": models.VectorParams(size=DIMENSIONS, distance=models.Distance.COSINE)}
        )
        async with started(engine := server.address.engine(name)):
            assert "not created by Quarry" in await reason_of(engine)
        assert (await client.get_collection(name)).payload_schema == {}


async def test_a_collection_of_another_size_is_refused(server: QdrantProcess, name: str) -> None:
    async with started(engine := server.address.engine(name)):
        await eventually(lambda: healthy(engine))
    async with started(other := server.address.engine(name, dimensions=8)):
        assert "vectors of 384" in await reason_of(other)


async def test_a_wrong_key_is_refused_and_nothing_is_answered(server: QdrantProcess, name: str) -> None:
    stranger = Address(server.address.url, server.address.grpc_port, KEY + "x")
    async with started(engine := stranger.engine(name)):
        reason = await reason_of(engine)
        assert "UNAUTHENTICATED" in reason
        assert KEY not in reason
        with pytest.raises(VectorStoreUnavailable):
            await engine.search(search_for(str(uuid4())))


async def test_a_server_that_does_not_know_scoped_statistics_is_not_used(folders: Folders, name: str) -> None:
    """It would ignore them without a word, and rank by the words of all tenants."""
    async with QdrantProcess.running(folders("old"), version="1.18.2") as old:
        async with started(engine := old.address.engine(name)):
            assert "1.18.2; 1.19 or later" in await reason_of(engine)
            with pytest.raises(VectorStoreUnavailable):
                await engine.upsert(engine_points(str(uuid4()), 1))
        async with client_of(old.address) as client:
            assert not await client.collection_exists(name)


async def test_a_server_that_was_replaced_by_an_older_one_is_noticed(broken: QdrantProcess, name: str) -> None:
    async with started(engine := broken.address.engine(name)):
        await eventually(lambda: healthy(engine))
        await broken.kill()
        broken.version = "1.15.4"
        await broken.start()

        with pytest.raises(VectorStoreUnavailable) as refused:
            await engine.ping()
        assert "1.15.4" in refused.value.reason


async def test_the_engine_starts_without_a_server_and_finds_it_when_it_comes(folders: Folders, name: str) -> None:
    server = QdrantProcess(folders("late"))
    async with started(engine := server.address.engine(name)):
        assert not await healthy(engine)
        with pytest.raises(VectorStoreUnavailable):
            await engine.count(every())
        await server.start()
        try:
            await eventually(lambda: healthy(engine), within=20)
            assert await engine.count(every()) == 0
        finally:
            await server.kill()


async def test_what_was_acknowledged_survives_the_servers_death_amid_writing(broken: QdrantProcess, name: str) -> None:
    owner, acknowledged, failures = str(uuid4()), set[str](), 0
    engine = broken.address.engine(name)

    async def write() -> None:
        nonlocal failures
        for _ in range(60):
            batch = engine_points(owner, 16)
            try:
                await engine.upsert(batch)
            except VectorStoreUnavailable:
                failures += 1
            else:
                acknowledged.update(point["id"] for point in batch)

    async def enough() -> bool:
        return len(acknowledged) >= 320

    async with started(engine):
        writing = asyncio.gather(*(write() for _ in range(8)))
        await eventually(enough)
        await broken.kill()
        await writing
        assert not await healthy(engine)
        await broken.start()
        await eventually(lambda: healthy(engine), within=20)
        found = await engine.scroll(every(equals("tenant_id", owner)), after=None, limit=10_000)

    assert failures > 0, "no write was under way when the server was killed"
    assert acknowledged <= {record["id"] for record in found}


async def test_a_silent_server_is_unhealthy_until_it_goes_on(broken: QdrantProcess, name: str) -> None:
    async with started(engine := broken.address.engine(name, call_timeout=0.5)):
        await eventually(lambda: healthy(engine))
        broken.send(signal.SIGSTOP)
        with pytest.raises(VectorStoreUnavailable, match="try again") as silent:
            await engine.count(every())
        assert "not answered" in silent.value.reason
        assert not await healthy(engine)
        broken.send(signal.SIGCONT)

        await eventually(lambda: healthy(engine), within=20)


async def test_something_else_at_the_address_is_unavailable(name: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = Address("http://127.0.0.1", listener.getsockname()[1], KEY)
        async with started(engine := address.engine(name, call_timeout=0.5)):
            assert "the start" in await reason_of(engine)


async def test_a_server_that_lost_everything_gives_no_answer_rather_than_an_empty_one(
    broken: QdrantProcess, name: str
) -> None:
    owner = str(uuid4())
    engine = broken.address.engine(name)
    async with started(engine):
        await engine.upsert(engine_points(owner, 3))
        assert len(await engine.search(search_for(owner))) == 3
        await broken.kill()
        broken.empty()
        await broken.start()

        async def gone() -> bool:
            with pytest.raises(VectorStoreUnavailable) as lost:
                await engine.search(search_for(owner))
            return "is gone" in lost.value.reason

        await eventually(gone)
        for refused in (engine.upsert(engine_points(owner, 1)), engine.ping()):
            with pytest.raises(VectorStoreUnavailable) as lost:
                await refused
            assert "is gone" in lost.value.reason

        # Whoever restarts says that an empty store is meant; the others go on with it.
        async with started(restarted := broken.address.engine(name)):
            await eventually(lambda: healthy(restarted))
            await eventually(lambda: healthy(engine))
            assert await engine.count(every()) == 0


async def test_a_loss_is_noticed_by_looking_alone(broken: QdrantProcess, name: str) -> None:
    async with started(engine := broken.address.engine(name)):
        await eventually(lambda: healthy(engine))
        async with client_of(broken.address) as client:
            await client.delete_collection(name)

        assert "is gone" in await reason_of(engine)
        assert not await healthy(engine)


async def test_what_is_deleted_between_ranking_and_reading_falls_out_of_the_ranking(
    server: QdrantProcess, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    engine = server.address.engine(name)
    async with started(engine):
        project = VectorStore(engine, dimensions=DIMENSIONS).project(uuid4(), uuid4())
        chunks = [chunk("salt", document_id=UUID(int=number)) for number in range(1, 10)]
        await project.upsert(chunks)
        query = VectorQuery(mode="keyword", text="salt", limit=3)
        first = [hit.document_id for hit in await project.search(query)]
        client = engine._client
        assert client is not None
        retrieve, removed = client.retrieve, list[UUID]()

        async def late(*args: object, **named: object) -> object:
            if not removed:
                removed.append(first[0])
                await project.delete_document(first[0])
            return await retrieve(*args, **named)  # type: ignore[arg-type]  # as they came

        monkeypatch.setattr(client, "retrieve", late)
        found = [hit.document_id for hit in await project.search(query)]

    assert removed == first[:1]
    assert len(found) == 3
    assert found[:2] == first[1:]


async def test_a_condition_the_engine_does_not_know_is_an_error_and_never_ignored(
    server: QdrantProcess, name: str
) -> None:
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
    async with started(engine := server.address.engine(name)):
        for unknown in conditions:
            with pytest.raises(VectorStoreUnavailable) as failed:
                await engine.count(unknown)  # type: ignore[arg-type]  # wrong on purpose
            assert "ValueError" in failed.value.reason


async def test_who_stops_amid_a_call_fails_it_and_can_stop_again(broken: QdrantProcess, name: str) -> None:
    engine = broken.address.engine(name)
    async with started(engine):
        await eventually(lambda: healthy(engine))
        broken.send(signal.SIGSTOP)
        counting = asyncio.create_task(engine.count(every()))
        await asyncio.sleep(0)
        await engine.stop()
        with pytest.raises(VectorStoreUnavailable):
            await counting
        with pytest.raises(VectorStoreUnavailable):
            await engine.ping()
        broken.send(signal.SIGCONT)


async def test_starting_twice_is_a_mistake(server: QdrantProcess, name: str) -> None:
    async with started(engine := server.address.engine(name)):
        with pytest.raises(RuntimeError):
            await engine.start()


async def test_a_cancelled_caller_stays_cancelled(broken: QdrantProcess, name: str) -> None:
    async with started(engine := broken.address.engine(name)):
        await eventually(lambda: healthy(engine))
        broken.send(signal.SIGSTOP)
        counting = asyncio.create_task(engine.count(every()))
        await asyncio.sleep(0)
        counting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await counting
        broken.send(signal.SIGCONT)


async def test_a_server_is_used_on_the_event_loop_of_production_too(server: QdrantProcess, name: str) -> None:
    program = (
        "import asyncio, sys, uvloop; from uuid import uuid4\n"
        "from tests.support.qdrant_process import Address\n"
        "from tests.services.indexing.vectors.samples import engine_points\n"
        "async def main():\n"
        "    engine = Address('http://127.0.0.1', int(sys.argv[1]), sys.argv[2]).engine(sys.argv[3])\n"
        "    await engine.start()\n"
        "    await asyncio.gather(*(engine.upsert(engine_points(str(uuid4()), 8)) for _ in range(8)))\n"
        "    print(await engine.count({'must': []}))\n"
        "    await engine.stop()\n"
        "uvloop.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        *(str(server.address.grpc_port), KEY, name),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaints = await asyncio.wait_for(process.communicate(), 60)

    assert (said.splitlines()[-1:], process.returncode) == ([b"64"], 0), complaints.decode()
    assert b"Traceback" not in complaints
