"""Generations of points side by side, also with vectors of different length."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from services.indexing.vectors.embedded.engine import EmbeddedEngine
from services.indexing.vectors.errors import InvalidPoint, VectorStoreUnavailable
from services.indexing.vectors.points import ChunkPoint, VectorQuery, VersionPoints, point_id
from services.indexing.vectors.store import ProjectVectors, VectorStore
from tests.services.indexing.vectors.samples import DIMENSIONS, chunk, parsed, vector_of

SHORT = 8


async def test_what_is_present_is_counted_by_chunk(project: ProjectVectors) -> None:
    document_id = uuid4()
    await project.upsert([chunk(document_id=document_id, chunk_index=index, generation=2) for index in (0, 1, 3)])
    version = VersionPoints(document_id, 1, 2)
    assert await project.present(version, 0, 4, dimensions=DIMENSIONS) == 3
    assert await project.present(version, 2, 3, dimensions=DIMENSIONS) == 0
    assert await project.present(VersionPoints(document_id, 1, 3), 0, 4, dimensions=DIMENSIONS) == 0
    assert await project.present(version, 0, 0, dimensions=DIMENSIONS) == 0


async def test_points_are_read_in_pages_whatever_their_generation(project: ProjectVectors) -> None:
    await project.upsert([chunk(generation=generation) for generation in (1, 2, 2, 3, 3)])
    seen: list[UUID] = []
    generations = []
    while page := await project.page(seen[-1] if seen else None, limit=2, dimensions=DIMENSIONS):
        seen += [hit.point_id for hit in page]
        generations += [hit.generation for hit in page]
    assert seen == sorted(seen)
    assert sorted(generations) == [1, 2, 2, 3, 3]


async def test_a_generation_is_deleted_in_pieces(project: ProjectVectors) -> None:
    await project.upsert([chunk(generation=generation) for generation in (1, 2, 2, 2)])
    assert await project.delete_generation(2, at_most=2) == 2
    assert await project.delete_generation(2, at_most=2) == 1
    assert [tally.generation for tally in await project.tally()] == [1]


def test_equal_scores_are_ordered_the_same_way_in_every_generation() -> None:
    tenant, project, documents = uuid4(), uuid4(), [uuid4() for _ in range(50)]

    def order(generation: int) -> list[UUID]:
        return sorted(
            documents, key=lambda document: point_id(tenant, project, VersionPoints(document, 1, generation), 0)
        )

    assert order(2) == order(3) == order(2**31 - 1)
    ids = {
        point_id(tenant, project, VersionPoints(document, 1, generation), index)
        for document in documents
        for generation in (1, 2, 3)
        for index in range(10)
    }
    assert len(ids) == 50 * 3 * 10


@pytest.fixture
async def two(folders: Callable[[str], Path]) -> AsyncIterator[VectorStore]:
    folder = folders("two")
    engines = [
        EmbeddedEngine(folder / str(length), dimensions=length, lock_timeout=5.0, call_timeout=10.0)
        for length in (DIMENSIONS, SHORT)
    ]
    store = VectorStore(engines[0], dimensions=DIMENSIONS, others={SHORT: engines[1]})
    await store.start()
    yield store
    await store.stop()


def short(text: str, document_id: UUID, index: int = 0) -> ChunkPoint:
    made = chunk(text, document_id=document_id, chunk_index=index, generation=2, metadata={"lang": "en"})
    return ChunkPoint(**{**{name: getattr(made, name) for name in made.__slots__}, "vector": vector_of(text)[:SHORT]})


async def test_vectors_of_two_lengths_are_one_project(two: VectorStore) -> None:
    project, other, document_id = two.project(uuid4(), uuid4()), two.project(uuid4(), uuid4()), uuid4()
    await project.upsert([chunk("granite wall", document_id=document_id, metadata={"lang": "en"})])
    await project.upsert([short("granite wall", document_id, index) for index in range(3)])
    await other.upsert([short("granite wall", uuid4())])
    assert await two.healthy()
    assert await project.count() == 4
    for mode in ("semantic", "keyword", "hybrid"):
        query = VectorQuery(
            mode=mode, vector=vector_of("granite")[:SHORT], text="granite", generation=2, dimensions=SHORT
        )
        assert [hit.document_id for hit in await project.search(query)] == [document_id] * 3
    assert len(await project.search(VectorQuery(vector=vector_of("granite"), text="granite", generation=1))) == 1
    await project.set_metadata(document_id, {"lang": "fr"})
    french = parsed({"field": "metadata.lang", "eq": "fr"})
    assert len(await project.search(VectorQuery(mode="keyword", text="granite", filter=french))) == 1
    assert len(await project.search(VectorQuery(mode="keyword", text="granite", filter=french, dimensions=SHORT))) == 3
    assert len(await project.point_ids(document_id)) == 4
    assert await project.delete_document(document_id, at_most=2) == 2
    assert await project.delete_document(document_id, at_most=3) == 2
    await two.flush()
    await two.optimize()
    assert await other.count() == 1
    assert await two.wipe() == 1


async def test_a_length_that_no_engine_has_is_refused(two: VectorStore, project: ProjectVectors) -> None:
    document_id = uuid4()
    made = short("granite", document_id)
    with pytest.raises(InvalidPoint):
        await project.upsert([made])
    with pytest.raises(InvalidPoint):
        await two.project(uuid4(), uuid4()).upsert([made, chunk(document_id=document_id)])
    with pytest.raises(VectorStoreUnavailable):
        await project.search(VectorQuery(mode="keyword", text="granite", dimensions=SHORT))
    with pytest.raises(InvalidPoint):
        await project.search(VectorQuery(mode="semantic", vector=[1.0] * SHORT))


async def test_an_engine_that_does_not_start_stops_the_others(tmp_path: Path, two: VectorStore) -> None:
    busy = next(iter(two._engines.values()))
    assert isinstance(busy, EmbeddedEngine)
    path = str(busy._options["path"])
    engines = [
        EmbeddedEngine(home, dimensions=length, lock_timeout=0.1, call_timeout=10.0)
        for home, length in ((tmp_path, SHORT), (Path(path), DIMENSIONS))
    ]
    store = VectorStore(engines[0], dimensions=SHORT, others={DIMENSIONS: engines[1]})
    with pytest.raises(VectorStoreUnavailable):
        await store.start()
    assert engines[0].pid is None
