"""Pending vector changes: one for each document, tenants in turn."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from services.indexing import tenant_turns
from services.indexing.documents import repository, vector_changes
from services.indexing.documents.models import VectorChange
from services.indexing.jobs import service
from shared.tenancy import Database
from tests.services.indexing.jobs.test_leases import taken
from tests.services.indexing.uploads import Library

LATER = timedelta(hours=1)
pytestmark = pytest.mark.usefixtures("quiet_queue", "nothing_owed")


@pytest.fixture
async def nothing_owed(database: Database) -> None:
    """By no tenant of an earlier test."""
    async with database.system() as session:
        await session.execute(update(VectorChange).values(due_at=VectorChange.due_at + LATER))


async def pending(library: Library) -> list[VectorChange]:
    async with library.database.tenant(library.tenant_id) as session:
        return list(await session.scalars(select(VectorChange)))


async def enqueue(library: Library, document_id: uuid.UUID, *, describe: bool = False) -> None:
    async with library.database.tenant(library.tenant_id) as session:
        await repository.enqueue_vector_change(session, document_id, describe=describe)


async def claim(database: Database, after: uuid.UUID, *but: uuid.UUID) -> VectorChange:
    async with database.system() as session:
        change = await tenant_turns.claim(session, vector_changes.QUEUE, after=after, but=but)
    assert change is not None
    return change


async def test_updates_of_a_document_are_owed_as_one_change(library: Library) -> None:
    document_id = await library.upload("text")
    for sequence in range(2, 12):
        await library.update(document_id, sequence=sequence, name="note.txt", metadata={"n": sequence})
    await library.delete(document_id)
    assert [(change.document_id, change.describe) for change in await pending(library)] == [(document_id, True)]


async def test_tenants_take_turns_whatever_they_are_owed(
    database: Database, library: Library, other_library: Library
) -> None:
    for _ in range(5):
        await enqueue(library, uuid.uuid4())
    for _ in range(2):
        await enqueue(other_library, uuid.uuid4())
    served, last = [], uuid.UUID(int=0)
    for _ in range(4):
        last = (await claim(database, last)).tenant_id
        served.append(last)
    assert served == sorted([library.tenant_id, other_library.tenant_id]) * 2
    assert (await claim(database, last, other_library.tenant_id)).tenant_id == library.tenant_id


async def test_a_change_that_grew_meanwhile_stays_owed_and_begins_again(database: Database, library: Library) -> None:
    document_id = uuid.uuid4()
    await enqueue(library, document_id)
    change = await claim(database, uuid.UUID(int=0))
    await enqueue(library, document_id, describe=True)
    async with database.tenant(library.tenant_id) as session:
        await vector_changes.settle(session, change)
        await vector_changes.go_on(session, change, uuid.uuid4())
    again = await claim(database, uuid.UUID(int=0))
    assert (again.describe, again.position) == (True, None)
    assert again.revision != change.revision
    async with database.tenant(library.tenant_id) as session:
        await vector_changes.settle(session, again)
    assert await pending(library) == []


async def test_a_long_change_goes_on_where_it_was(database: Database, library: Library) -> None:
    await enqueue(library, uuid.uuid4(), describe=True)
    change, position = await claim(database, uuid.UUID(int=0)), uuid.uuid4()
    async with database.tenant(library.tenant_id) as session:
        await vector_changes.go_on(session, change, position)
    assert (await claim(database, uuid.UUID(int=0))).position == position


async def test_what_was_overtaken_by_another_process_is_described_again(database: Database, library: Library) -> None:
    await enqueue(library, uuid.uuid4(), describe=True)
    late = await claim(database, uuid.UUID(int=0))
    async with database.tenant(library.tenant_id) as session:
        await vector_changes.settle(session, late)
        await vector_changes.settle(session, late)
    assert [change.describe for change in await pending(library)] == [True]


async def test_no_version_begins_while_points_are_deleted(database: Database, library: Library) -> None:
    document_id = await library.upload("text")
    lease = await taken(database)

    async def start() -> None:
        async with database.tenant(library.tenant_id) as session:
            await service.start(session, lease)

    async with asyncio.timeout(10):
        async with database.tenant(library.tenant_id) as session:
            await repository.keep_from_beginning(session, document_id)
            starting = asyncio.create_task(start())
            done, _ = await asyncio.wait([starting], timeout=0.3)
            assert not done
            # Events about the document wait for neither.
            await library.update(document_id, sequence=2, name="other.txt", metadata={"n": 1})
        await starting
