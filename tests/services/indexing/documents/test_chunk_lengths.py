"""The average length of a project's chunks follows its documents."""

import asyncio
import uuid

import pytest

from services.indexing.documents import chunk_lengths, repository
from services.indexing.documents.chunk_lengths import ChunkLengths, Lengths
from services.indexing.jobs import service
from services.indexing.vectors.points import USUAL_LENGTH
from tests.services.indexing.jobs.test_leases import taken
from tests.services.indexing.uploads import Library

pytestmark = pytest.mark.usefixtures("quiet_queue")
NONE = Lengths(0, 0)


async def average(library: Library, own: Lengths = NONE, lengths: ChunkLengths | None = None) -> float:
    async with library.database.tenant(library.tenant_id) as session:
        known = await (lengths or ChunkLengths()).of_project(session, library.project_id)
    return chunk_lengths.average(known, own)


async def indexed(library: Library, *, chunks: int, characters: int) -> uuid.UUID:
    document_id = await library.upload("text")
    lease = await taken(library.database)
    generation = await library.generation()
    async with library.database.tenant(library.tenant_id) as session:
        await service.complete(
            session,
            lease,
            described=("", {}),
            language=None,
            chunk_count=chunks,
            characters=characters,
            average_length=1.0,
            kept_batches=False,
            generation=generation,
        )
    return document_id


async def test_it_is_that_of_the_live_versions(library: Library, other_library: Library) -> None:
    assert await average(library) == USUAL_LENGTH
    assert await average(library, Lengths(2, 300)) == 150
    await indexed(library, chunks=1, characters=100)
    deleted = await indexed(library, chunks=3, characters=1100)
    assert await average(library) == 300
    assert await average(library, Lengths(4, 0)) == 150
    assert await average(other_library) == USUAL_LENGTH

    await library.delete(deleted)
    assert await average(library) == 100


async def test_it_is_remembered_in_proportion_to_what_it_took(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths, read, slow = ChunkLengths(), 0, repository.indexed_lengths

    async def counted(session: object, project_id: uuid.UUID) -> tuple[int, int]:
        nonlocal read
        read += 1
        found = await slow(session, project_id)  # type: ignore[arg-type]  # as it was called
        await asyncio.sleep(0.05)
        return found

    monkeypatch.setattr(repository, "indexed_lengths", counted)
    for number in range(1, 4):
        assert await average(library, Lengths(1, number), lengths) == number
    assert read == 1
