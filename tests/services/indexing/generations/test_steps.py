"""The steps of a generation one by one, with nobody else at work: what stands between two of them, and erasure."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from services.indexing.documents import erasure
from services.indexing.documents import repository as documents
from services.indexing.documents.models import Document, VectorChange
from services.indexing.generations import repository, service
from services.indexing.generations.errors import GenerationSwitched
from services.indexing.generations.identity import FIRST
from services.indexing.generations.models import Generation, GenerationDocument
from services.indexing.generations.queues import GENERATIONS
from services.indexing.tenant_turns import claim
from shared.errors import Unavailable
from shared.tenancy import Database
from shared.work_queue import ClaimLost
from tests.services.indexing.uploads import Library

NOBODY = uuid.UUID(int=0)
HOUR = timedelta(hours=1)


async def claimed(database: Database, library: Library) -> Generation:
    """The library's generation that is being built, claimed as by a process."""
    async with database.system() as session:
        await session.execute(
            update(Generation).where(Generation.tenant_id != library.tenant_id).values(due_at=func.now() + HOUR)
        )
        found = await claim(session, GENERATIONS, after=NOBODY, but=())
    assert found is not None
    assert (found.project_id, found.state) == (library.project_id, "building")
    return found


async def building(database: Database, library: Library) -> Generation:
    await library.generation()
    async with database.tenant(library.tenant_id) as session:
        await service.request(session, project_id=library.project_id, identity=FIRST)
    return await claimed(database, library)


async def goes_live(database: Database, library: Library, document_id: uuid.UUID, written: int) -> None:
    async with database.tenant(library.tenant_id) as session:
        await service.goes_live(session, project_id=library.project_id, document_id=document_id, written=written)


async def switched(database: Database, library: Library, generation: Generation) -> bool:
    async with database.tenant(library.tenant_id) as session:
        return await service.switch(session, generation, kept_for=HOUR, next_check=HOUR)


async def lacking(database: Database, library: Library) -> list[GenerationDocument]:
    async with database.tenant(library.tenant_id) as session:
        return list(await session.scalars(select(GenerationDocument)))


async def test_a_version_that_goes_live_after_the_walk_stops_the_switch(database: Database, library: Library) -> None:
    generation = await building(database, library)
    document_id = uuid.uuid4()
    await goes_live(database, library, document_id, 2)
    assert not await switched(database, library, generation)
    ((number, waiting),) = [(row.number, row.document_id) for row in await lacking(database, library)]
    assert (number, waiting) == (3, document_id)
    async with database.tenant(library.tenant_id) as session:
        await session.delete((await session.scalars(select(GenerationDocument))).one())
    assert await switched(database, library, generation)
    with pytest.raises(GenerationSwitched):
        await goes_live(database, library, document_id, 2)
    await goes_live(database, library, document_id, 3)
    assert await lacking(database, library) == []


async def test_a_switch_waits_for_versions_that_are_going_live(database: Database, library: Library) -> None:
    """Else one could be written to the old generation and be missing in the new one."""
    generation = await building(database, library)
    async with database.tenant(library.tenant_id) as session:
        await service.goes_live(session, project_id=library.project_id, document_id=uuid.uuid4(), written=2)
        async with database.tenant(library.tenant_id) as other:
            await other.execute(
                select(func.set_config("lock_timeout", "200", True)).execution_options(tenant_guard="reads no row")
            )
            with pytest.raises(Exception, match="lock timeout"):
                await service.switch(other, generation, kept_for=HOUR, next_check=HOUR)
            await other.rollback()
    assert not await switched(database, library, generation)


async def test_a_second_switch_drops_what_was_kept(database: Database, library: Library) -> None:
    first = await building(database, library)
    assert await switched(database, library, first)
    async with database.tenant(library.tenant_id) as session:
        await service.request(session, project_id=library.project_id, identity=FIRST)
    second = await claimed(database, library)
    assert await switched(database, library, second)
    states = {number: row.state for number, row in (await library.generations()).items()}
    assert states == {4: "active", 3: "kept", 2: "dropping"}
    assert not await switched(database, library, second)


async def test_another_reason_lets_a_document_begin_again(database: Database, library: Library) -> None:
    document_id = uuid.uuid4()
    for _ in range(2):
        async with database.tenant(library.tenant_id) as session:
            await repository.enqueue(session, library.project_id, 3, [document_id])
        (row,) = await lacking(database, library)
        async with database.tenant(library.tenant_id) as session:
            await session.execute(update(GenerationDocument).values(next_chunk=64, version=1))
        (again,) = await lacking(database, library)
        assert again.revision == row.revision
    async with database.tenant(library.tenant_id) as session:
        await repository.enqueue(session, library.project_id, 3, [document_id])
    (row,) = await lacking(database, library)
    assert row.revision != again.revision
    assert (row.version, row.next_chunk) == (None, 0)


async def test_a_tenant_is_erased_once_no_points_are_written_for_it(database: Database, library: Library) -> None:
    await building(database, library)
    async with database.tenant(library.tenant_id) as session:
        await repository.enqueue(session, library.project_id, 3, [uuid.uuid4(), uuid.uuid4()])
        await documents.tombstone_tenant(session)
        row = (await session.scalars(select(GenerationDocument).limit(1))).one()
        row.due_at = datetime.now(UTC) + HOUR

    async def erase() -> None:
        whole = False
        while not whole:
            async with database.tenant(library.tenant_id) as session:
                whole = await erasure.erase_tenant(session)

    with pytest.raises(Unavailable):
        await erase()
    assert len(await lacking(database, library)) == 1
    async with database.tenant(library.tenant_id) as session:
        await session.execute(update(GenerationDocument).values(due_at=func.now()))
    await erase()
    assert await lacking(database, library) == []
    assert await library.generations() == {}


async def test_a_project_with_documents_and_no_generation_is_of_the_first_one(
    database: Database, library: Library
) -> None:
    """An older version of Quarry beside this one has indexed them."""
    document_id = await library.upload("text")
    async with database.tenant(library.tenant_id) as session:
        await session.execute(update(Document).where(Document.document_id == document_id).values(live_version=1))
    assert await library.generation() == 1


async def test_claims_are_lost_to_who_makes_a_step_due(database: Database, library: Library) -> None:
    generation = await building(database, library)
    async with database.tenant(library.tenant_id) as session:
        await service.cancel(session, project_id=library.project_id, number=3)
    async with database.tenant(library.tenant_id) as session:
        with pytest.raises(ClaimLost):
            await GENERATIONS.held(session, generation)
        assert (await session.scalars(select(VectorChange))).all() == []
