"""What the events of the projects service do to documents and jobs: once, twice, late, and in the wrong order."""

import uuid

import pytest
from sqlalchemy import select

from services.indexing.documents import erasure, repository
from services.indexing.documents.errors import UnknownDocument
from services.indexing.documents.models import Chunk, Document, VectorChange
from services.indexing.jobs import service
from services.indexing.jobs.errors import Obsolete
from services.indexing.jobs.leases import Lease
from services.indexing.jobs.models import Job
from shared import bounded_deletes
from shared.errors import Unavailable
from shared.events.identity import TenantDeleted
from shared.events.projects import DocumentUpdated
from shared.project_access import KnownProject
from shared.tenancy import Database
from tests.services.indexing.jobs.test_leases import taken
from tests.services.indexing.uploads import Library

pytestmark = pytest.mark.usefixtures("quiet_queue")


async def changes(library: Library) -> list[tuple[uuid.UUID | None, bool]]:
    async with library.database.tenant(library.tenant_id) as session:
        rows = await session.scalars(select(VectorChange).order_by(VectorChange.id))
        return [(row.document_id, row.describe) for row in rows]


async def pending_ids(library: Library) -> list[uuid.UUID]:
    async with library.database.tenant(library.tenant_id) as session:
        return list(await session.scalars(select(VectorChange.revision)))


async def chunk_count(library: Library) -> int:
    async with library.database.tenant(library.tenant_id) as session:
        return len((await session.scalars(select(Chunk))).all())


async def erased(library: Library) -> None:
    whole = False
    while not whole:
        async with library.database.tenant(library.tenant_id) as session:
            whole = await erasure.erase_tenant(session)


async def keep_a_chunk(library: Library, lease: Lease, index: int = 0) -> None:
    row = {
        "project_id": library.project_id, "document_id": lease.document_id, "version": lease.version,
        "chunk_index": index,
        "start_offset": 0, "end_offset": 4, "page": None, "text": "text",
    }  # fmt: skip
    async with library.database.tenant(library.tenant_id) as session:
        await service.keep_chunks(session, lease, [row], first=index, total=index + 1)


async def complete(library: Library, lease: Lease, described: dict[str, str] | None = None) -> None:
    generation = await library.generation()
    async with library.database.tenant(library.tenant_id) as session:
        await service.complete(
            session,
            lease,
            described=("note.txt", described or {}),
            language=None,
            chunk_count=1,
            characters=4,
            average_length=4.0,
            kept_batches=False,
            generation=generation,
        )


# --- uploads ---------------------------------------------------------------------------------------------------------


async def test_an_upload_makes_one_job(library: Library) -> None:
    document_id = await library.upload("text", metadata={"lang": "en"}, lane="bulk")
    document = await library.document(document_id)
    assert (document.version, document.live_version, document.deleted) == (1, None, False)
    assert (document.name, document.attributes) == ("note.txt", {"lang": "en"})
    job = await library.job(document_id)
    assert (job.state, job.lane, job.size, job.correlation_id) == ("queued", "bulk", 4, "request-1")


async def test_the_same_upload_again_changes_nothing(library: Library) -> None:
    event_id, document_id = uuid.uuid4(), uuid.uuid4()
    event = library.uploaded("text", document_id=document_id)
    await library.announce(event, sequence=1, event_id=event_id)
    await library.announce(event, sequence=1, event_id=event_id)
    await library.announce(event, sequence=1)
    assert len(await library.jobs(document_id)) == 1


async def test_an_upload_after_the_deletion_brings_nothing_back(library: Library) -> None:
    document_id = uuid.uuid4()
    await library.delete(document_id, sequence=4)
    await library.upload("text", document_id=document_id, sequence=1)
    await library.upload("text", document_id=document_id, sequence=9, version=2)
    assert await library.jobs(document_id) == []
    document = await library.document(document_id)
    assert (document.deleted, document.name) == (True, "")


async def test_a_late_upload_of_an_older_version_makes_no_job(library: Library) -> None:
    document_id = await library.upload("new", version=2, sequence=5)
    await library.upload("old", document_id=document_id, version=1, sequence=1)
    assert [job.version for job in await library.jobs(document_id)] == [2]
    assert (await library.document(document_id)).version == 2


async def test_a_newer_version_makes_the_jobs_of_older_ones_pointless(database: Database, library: Library) -> None:
    document_id = await library.upload("one")
    await library.upload("two", document_id=document_id, version=2, sequence=2)
    assert [job.state for job in await library.jobs(document_id)] == ["cancelled", "queued"]
    await taken(database)
    await library.upload("three", document_id=document_id, version=3, sequence=3)
    jobs = await library.jobs(document_id)
    assert [(job.state, job.cancel_requested) for job in jobs[1:]] == [("extracting", True), ("queued", False)]
    assert await library.events(document_id) == [("cancelled", 1)]


# --- updates ---------------------------------------------------------------------------------------------------------


async def test_an_update_is_stored_and_owed_to_the_vector_store(library: Library) -> None:
    document_id = await library.upload("text", metadata={"lang": "en"})
    await library.update(document_id, sequence=2, name="Named", metadata={"lang": "fr"})
    document = await library.document(document_id)
    assert (document.name, document.attributes, document.sequence) == ("Named", {"lang": "fr"}, 2)
    assert await changes(library) == [(document_id, True)]


async def test_a_name_changes_the_points_and_the_same_name_does_not(library: Library) -> None:
    document_id = await library.upload("text", name="named.txt")
    await library.update(document_id, sequence=2, name="named.txt", metadata={})
    assert await changes(library) == []
    await library.update(document_id, sequence=3, name="renamed.txt", metadata={})
    assert await changes(library) == [(document_id, True)]


async def test_a_name_that_changed_while_points_were_written_is_told_once_they_are_searched(
    database: Database, library: Library
) -> None:
    document_id = await library.upload("text", name="renamed.txt")
    lease = await taken(database)
    await keep_a_chunk(library, lease)
    await complete(library, lease)  # of the points' name
    assert await changes(library) == [(document_id, True)]


async def test_an_older_update_is_ignored(library: Library) -> None:
    document_id = await library.upload("text")
    await library.update(document_id, sequence=3, name="Newer", metadata={})
    await library.update(document_id, sequence=2, name="Older", metadata={})
    await library.upload("text", document_id=document_id, sequence=1)
    assert (await library.document(document_id)).name == "Newer"


async def test_an_update_before_its_upload_is_left_for_later(library: Library) -> None:
    with pytest.raises(UnknownDocument):
        await library.update(uuid.uuid4(), sequence=2, name="Early", metadata={})


async def test_a_linked_document_is_nothing_to_index_until_it_is_on_its_own(library: Library) -> None:
    document_id, linked_to = uuid.uuid4(), uuid.uuid4()
    uploaded = library.uploaded("text", document_id=document_id)
    await library.announce(uploaded.model_copy(update={"linked_to": linked_to}), sequence=1)
    updated = DocumentUpdated(
        project_id=library.project_id, document_id=document_id, version=1, name="b", metadata={}, linked_to=linked_to
    )
    await library.announce(updated, sequence=2)
    async with library.database.tenant(library.tenant_id) as session:
        assert (await session.scalars(select(Document.document_id))).all() == []
        assert (await session.scalars(select(Job.id))).all() == []
    await library.announce(uploaded, sequence=3)
    assert (await library.job(document_id)).state == "queued"


async def test_an_update_of_a_deleted_document_says_nothing(library: Library) -> None:
    document_id = await library.upload("text")
    await library.delete(document_id, sequence=2)
    await library.update(document_id, sequence=3, name="Late", metadata={"lang": "en"})
    assert (await library.document(document_id)).name == ""


# --- deletion --------------------------------------------------------------------------------------------------------


async def test_deletion_removes_chunks_and_stops_what_waits(database: Database, library: Library) -> None:
    document_id = await library.upload("text")
    lease = await taken(database)
    await keep_a_chunk(library, lease)
    async with database.tenant(library.tenant_id) as session:
        await service.postpone(session, lease, delay=0, counted=True, code="x", reason="x")
    await library.delete(document_id)
    assert await library.state(document_id) == "cancelled"
    assert await chunk_count(library) == 0
    assert (document_id, False) in await changes(library)


async def test_deletion_asks_what_runs_to_stop_and_nothing_is_switched_after(
    database: Database, library: Library
) -> None:
    document_id = await library.upload("text")
    lease = await taken(database)
    await keep_a_chunk(library, lease)
    await library.delete(document_id)
    pending = await pending_ids(library)
    with pytest.raises(Obsolete):
        await complete(library, lease)
    with pytest.raises(Obsolete):
        await keep_a_chunk(library, lease)
    async with database.tenant(library.tenant_id) as session:
        assert await service.cancel(session, lease)
    assert await library.state(document_id) == "cancelled"
    assert await chunk_count(library) == 0
    assert (await library.document(document_id)).live_version is None
    # Once for the deletion, and again for whatever the job has written since: what has been worked off by then stays.
    assert await changes(library) == [(document_id, False)]
    assert await pending_ids(library) != pending


async def test_the_same_deletion_twice_is_one(library: Library) -> None:
    document_id = await library.upload("text")
    await library.delete(document_id, sequence=2)
    await library.delete(document_id, sequence=2)
    assert await library.events(document_id) == [("cancelled", 1)]


async def test_a_deleted_tenant_leaves_nothing_to_see_or_to_do(
    database: Database, library: Library, other_library: Library
) -> None:
    waiting, running = await library.upload("text"), await library.upload("text")
    other = await other_library.upload("text")
    async with database.tenant(library.tenant_id) as session:
        session.add(KnownProject(project_id=library.project_id, active=True, sequence=1))
    lease = await taken(database)
    assert lease.document_id == waiting
    await keep_a_chunk(library, lease)
    await library.announce(TenantDeleted(tenant_id=library.tenant_id), sequence=1)
    assert (await library.job(waiting)).cancel_requested
    async with database.tenant(library.tenant_id) as session:
        assert [project.active for project in await session.scalars(select(KnownProject))] == [False]
    with pytest.raises(Unavailable, match="still running"):
        await erased(library)
    assert await library.jobs(running) == []
    async with database.tenant(library.tenant_id) as session:
        with pytest.raises(Obsolete):
            await service.keep_chunks(session, lease, [], first=1, total=2)
        await service.cancel(session, lease)
    await erased(library)
    async with database.tenant(library.tenant_id) as session:
        for table in (Document, Chunk, Job, KnownProject):
            assert (await session.scalars(select(table))).all() == []
    assert await changes(library) == [(None, False)]
    assert await other_library.state(other) == "queued"


async def test_what_was_made_of_a_deleted_document_goes_in_pieces(
    database: Database, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = await library.upload("text"), await library.upload("text")
    leases = [await taken(database), await taken(database)]
    for lease in leases:
        for index in range(3):
            await keep_a_chunk(library, lease, index)
    await library.delete(gone, sequence=2)
    assert await chunk_count(library) == 6
    monkeypatch.setattr(bounded_deletes, "ROWS", 2)
    left = []
    for points in (3, 3, 1):
        async with database.tenant(library.tenant_id) as session:
            document = await repository.by_id(session, gone)
            assert document is not None
            whole = await erasure.erase_document(session, document, points=points)
        left.append((await chunk_count(library), whole))
    assert left == [(4, False), (3, False), (3, True)]
    document = await library.document(gone)
    assert (document.removed_points, document.removed_chunks) == (3, 3)
    assert await library.state(kept) == "embedding"


@pytest.mark.parametrize("late", ["update", "delete", "cancel"])
async def test_what_is_told_late_of_a_deleted_tenant_leaves_nothing(library: Library, late: str) -> None:
    await library.announce(TenantDeleted(tenant_id=library.tenant_id), sequence=1)
    document_id = uuid.uuid4()
    if late == "update":
        about = {"project_id": library.project_id, "document_id": document_id, "version": 1}
        await library.announce(DocumentUpdated(**about, name="n", metadata={}), sequence=2)
    elif late == "delete":
        await library.delete(document_id, sequence=2)
    else:
        await library.cancel(document_id)
    async with library.database.tenant(library.tenant_id) as session:
        for table in (Document, Job):
            assert (await session.scalars(select(table))).all() == []


async def test_an_upload_told_after_the_end_of_its_tenant_is_not_indexed(
    library: Library, other_library: Library
) -> None:
    await library.announce(TenantDeleted(tenant_id=library.tenant_id), sequence=1)
    await library.announce(TenantDeleted(tenant_id=library.tenant_id), sequence=1)
    late = await library.upload("text")
    assert await library.jobs(late) == []
    async with library.database.tenant(library.tenant_id) as session:
        assert (await session.scalars(select(Document))).all() == []
    assert await other_library.state(await other_library.upload("text")) == "queued"


@pytest.mark.parametrize("name", ["indexing.on_tenant_deleted", "indexing.runs.on_tenant_deleted"])
async def test_an_event_that_names_another_tenant_is_refused(library: Library, name: str) -> None:
    """Each handler has a transaction of its own, so each refuses it."""
    library.handlers = [handler for handler in library.handlers if handler.name == name]
    with pytest.raises(ValueError, match="another tenant"):
        await library.announce(TenantDeleted(tenant_id=uuid.uuid4()), sequence=1)


# --- cancel and retry ------------------------------------------------------------------------------------------------


async def test_what_waits_is_cancelled_at_once(library: Library) -> None:
    document_id = await library.upload("text")
    await library.cancel(document_id)
    job = await library.job(document_id)
    assert (job.state, job.revision) == ("cancelled", 1)
    assert job.finished_at is not None
    assert await library.events(document_id) == [("cancelled", 1)]


async def test_a_cancelled_job_is_queued_again_on_request_and_announced_again(
    database: Database, library: Library
) -> None:
    document_id = await library.upload("text")
    lease = await taken(database)
    async with database.tenant(library.tenant_id) as session:
        await service.start(session, lease)
        await service.fail(session, lease, code="x", reason="No.", evidence={"stage": "extracting"})
    await library.retry(document_id)
    job = await library.job(document_id)
    assert (job.state, job.attempts, job.error_code, job.finished_at) == ("queued", 0, None, None)
    again = await taken(database)
    assert again.job_id == lease.job_id
    async with database.tenant(library.tenant_id) as session:
        await service.start(session, again)
    assert await library.events(document_id) == [("started", 1), ("failed", 2), ("started", 3)]


async def test_an_older_request_does_not_undo_a_newer_one(library: Library) -> None:
    document_id = await library.upload("text")
    await library.cancel(document_id, sequence=2)
    await library.retry(document_id, sequence=3)
    await library.cancel(document_id, sequence=2)
    assert await library.state(document_id) == "queued"
    await library.cancel(document_id, sequence=5)
    await library.retry(document_id, sequence=4)
    assert await library.state(document_id) == "cancelled"


async def test_a_cancel_before_its_upload_still_counts(library: Library) -> None:
    document_id = uuid.uuid4()
    await library.cancel(document_id, sequence=2)
    await library.upload("text", document_id=document_id, sequence=1)
    assert await library.state(document_id) == "cancelled"
    assert await library.events(document_id) == [("cancelled", 1)]


async def test_a_cancel_and_a_retry_before_their_upload_leave_it_queued(database: Database, library: Library) -> None:
    document_id = uuid.uuid4()
    await library.cancel(document_id, sequence=2)
    await library.retry(document_id, sequence=3)
    await library.upload("text", document_id=document_id, sequence=1)
    job = await library.job(document_id)
    assert (job.state, job.size, job.correlation_id, job.finished_at) == ("queued", 4, "request-1", None)
    lease = await taken(database)
    async with database.tenant(library.tenant_id) as session:
        await service.start(session, lease)
    assert await library.events(document_id) == [("cancelled", 1), ("started", 2)]


async def test_the_last_of_the_requests_before_an_upload_counts(library: Library) -> None:
    document_id = uuid.uuid4()
    await library.cancel(document_id, sequence=2)
    await library.retry(document_id, sequence=3)
    await library.cancel(document_id, sequence=4)
    await library.upload("text", document_id=document_id, sequence=1)
    assert await library.state(document_id) == "cancelled"
    assert await library.events(document_id) == [("cancelled", 1), ("cancelled", 2)]
    await library.retry(document_id, sequence=5)
    assert await library.state(document_id) == "queued"


async def test_a_cancel_that_overtakes_a_retry_is_reported_once(database: Database, library: Library) -> None:
    """The owner has the document queued again: without a report it would wait for the job for ever."""
    cancelled = await library.upload("text")
    await library.cancel(cancelled, sequence=2)
    failed = await library.upload("text")
    lease = await taken(database)
    async with database.tenant(library.tenant_id) as session:
        await service.fail(session, lease, code="x", reason="No.", evidence={})
    for document_id, earlier in ((cancelled, ("cancelled", 1)), (failed, ("failed", 1))):
        await library.cancel(document_id, sequence=4)
        await library.retry(document_id, sequence=3)
        await library.retry(document_id, sequence=3)
        assert await library.state(document_id) == "cancelled"
        assert await library.events(document_id) == [earlier, ("cancelled", 2)]


async def test_a_retry_without_a_job_waits_for_the_upload(library: Library) -> None:
    document_id = uuid.uuid4()
    await library.retry(document_id)
    assert await library.jobs(document_id) == []


async def test_what_is_indexed_is_neither_cancelled_nor_indexed_again(database: Database, library: Library) -> None:
    document_id = await library.upload("text")
    lease = await taken(database)
    await keep_a_chunk(library, lease)
    await complete(library, lease)
    await library.cancel(document_id)
    await library.retry(document_id)
    assert await library.state(document_id) == "indexed"
    assert (await library.document(document_id)).live_version == 1


async def test_a_cancel_withdrawn_while_the_worker_stops_puts_the_job_back(
    database: Database, library: Library
) -> None:
    document_id = await library.upload("text")
    lease = await taken(database)
    await library.cancel(document_id)
    await library.retry(document_id)
    async with database.tenant(library.tenant_id) as session:
        assert not await service.cancel(session, lease)
    assert await library.state(document_id) == "queued"


async def test_a_job_with_chunks_that_is_cancelled_while_it_waits_leaves_none(
    database: Database, library: Library
) -> None:
    document_id = await library.upload("text")
    lease = await taken(database)
    await keep_a_chunk(library, lease)
    async with database.tenant(library.tenant_id) as session:
        await service.postpone(session, lease, delay=0, counted=True, code="x", reason="x")
    await library.cancel(document_id)
    assert (await library.job(document_id)).chunk_count is None
    assert await chunk_count(library) == 0
    assert await changes(library) == [(document_id, False)]


async def test_a_name_that_was_changed_while_points_were_written_is_owed(database: Database, library: Library) -> None:
    document_id = await library.upload("text", name="before.txt")
    lease = await taken(database)
    await keep_a_chunk(library, lease)
    await complete(library, lease)
    assert await changes(library) == [(document_id, True)]


async def test_completion_switches_versions_in_one_transaction(database: Database, library: Library) -> None:
    document_id = await library.upload("text", metadata={"lang": "en"})
    first = await taken(database)
    await keep_a_chunk(library, first)
    await complete(library, first, {"lang": "en"})
    assert await changes(library) == []
    await library.upload("text", document_id=document_id, version=2, sequence=2, metadata={"lang": "fr"})
    second = await taken(database)
    await keep_a_chunk(library, second)
    await complete(library, second)
    assert (await library.document(document_id)).live_version == 2
    assert await chunk_count(library) == 1
    # The old version's points are to go, and the new ones were written with other metadata than the document has now.
    assert await changes(library) == [(document_id, True)]
