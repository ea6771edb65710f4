"""Choice, heartbeat, takeover and fencing, without a worker: each test plays the workers itself."""

import asyncio
import os
import subprocess
import uuid
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from infra.local.stack import Stack
from infra.postgres.roles import Access
from services.indexing.jobs import lease_holders, leases, service
from services.indexing.jobs.errors import CancelRequested, LeaseLost
from services.indexing.jobs.leases import Lease
from shared.events.projects import Lane
from shared.tenancy import Database
from tests.services.indexing.projects_double import ProjectsDouble
from tests.services.indexing.uploads import Library

pytestmark = pytest.mark.usefixtures("quiet_queue")


async def take(
    database: Database,
    owner: str = "a",
    *,
    seconds: float = 30,
    preferred: Lane = "interactive",
    full: Collection[uuid.UUID] = (),
    kinds: Collection[bool] = (False, True),
) -> Lease | None:
    async with database.system() as session:
        return await leases.take_next(
            session, owner=owner, seconds=seconds, preferred=preferred, full=dict.fromkeys(kinds, full)
        )


async def taken(database: Database, owner: str = "a", **options: Any) -> Lease:
    lease = await take(database, owner, **options)
    assert lease is not None
    return lease


async def renew(database: Database, *held: Lease, seconds: float = 30) -> None:
    async with database.system() as session:
        await leases.renew(session, held, seconds=seconds)


async def run_out(database: Database, lease: Lease) -> None:
    """The lease's time passes."""
    async with database.system() as session:
        await session.execute(
            text("UPDATE jobs SET lease_expires_at = now() - interval '1 second' WHERE id = :id"), {"id": lease.job_id}
        )


async def test_a_job_is_taken_once_and_carries_what_the_work_needs(database: Database, library: Library) -> None:
    document_id = await library.upload("text")
    lease = await taken(database)
    assert (lease.tenant_id, lease.document_id, lease.version) == (library.tenant_id, document_id, 1)
    assert (lease.token, lease.attempts, lease.announced, lease.taken_over_in) == (1, 1, False, None)
    assert lease.correlation_id == "request-1"
    assert await take(database) is None
    job = await library.job(document_id)
    assert (job.state, job.lease_owner, job.fencing_token) == ("extracting", "a", 1)


async def test_two_workers_at_once_never_take_the_same_job(database: Database, library: Library) -> None:
    documents = {await library.upload(f"text {number}") for number in range(6)}
    taken_jobs = await asyncio.gather(*(take(database, str(number)) for number in range(6)))
    # A worker may find the job it chose locked by another and come away with nothing; none is taken twice.
    found = [lease.document_id for lease in taken_jobs if lease is not None]
    assert len(set(found)) == len(found)
    while lease := await take(database):
        found.append(lease.document_id)
    assert sorted(found) == sorted(documents)


async def test_a_job_that_waits_for_a_later_moment_is_left_alone(database: Database, library: Library) -> None:
    document_id = await library.upload("text")
    lease = await taken(database)
    async with database.tenant(library.tenant_id) as session:
        await service.postpone(session, lease, delay=60, counted=True, code="internal_error", reason="Later.")
    assert await take(database) is None
    job = await library.job(document_id)
    assert (job.state, job.attempts, job.deferrals, job.error_code) == ("queued", 1, 0, "internal_error")


async def test_waiting_for_a_neighbour_uses_up_no_attempt(database: Database, library: Library) -> None:
    document_id = await library.upload("text")
    for _ in range(3):
        lease = await taken(database)
        async with database.tenant(library.tenant_id) as session:
            await service.postpone(session, lease, delay=-1, counted=False, code="unavailable", reason="Later.")
    job = await library.job(document_id)
    assert (job.attempts, job.deferrals, job.fencing_token) == (0, 3, 3)


async def test_a_lease_that_is_renewed_does_not_run_out(database: Database, library: Library) -> None:
    document_id = await library.upload("text")
    lease = await taken(database, seconds=30)
    before = (await library.job(document_id)).lease_expires_at
    lease.stage, lease.done, lease.total = "embedding", 3, 7
    await renew(database, lease, seconds=60)
    job = await library.job(document_id)
    assert before is not None
    assert job.lease_expires_at is not None
    assert job.lease_expires_at > before
    assert (job.state, job.progress_done, job.progress_total) == ("embedding", 3, 7)
    lease.check()


async def test_an_expired_lease_is_taken_over_and_the_old_worker_learns_of_it(
    database: Database, library: Library
) -> None:
    await library.upload("text")
    old = await taken(database, "frozen")
    await run_out(database, old)
    new = await taken(database, "other")
    assert (new.job_id, new.token, new.attempts, new.taken_over_in) == (old.job_id, 2, 2, "extracting")
    await renew(database, old, new)
    assert old.lost
    assert not new.lost
    with pytest.raises(LeaseLost):
        old.check()


async def test_a_thawed_worker_cannot_write(database: Database, library: Library) -> None:
    document_id = await library.upload("text")
    old = await taken(database, "frozen")
    await run_out(database, old)
    new = await taken(database, "other")
    for write in (
        lambda session: service.start(session, old),
        lambda session: service.keep_chunks(session, old, [], first=0, total=0),
        lambda session: service.complete(
            session,
            old,
            described=("", {}),
            language=None,
            chunk_count=0,
            characters=0,
            average_length=1.0,
            kept_batches=False,
            generation=1,
        ),
        lambda session: service.fail(session, old, code="x", reason="x", evidence={}),
        lambda session: service.cancel(session, old),
        lambda session: service.postpone(session, old, delay=0, counted=True, code="x", reason="x"),
    ):
        with pytest.raises(LeaseLost):
            async with database.tenant(library.tenant_id) as session:
                await write(session)
    job = await library.job(document_id)
    assert (job.state, job.fencing_token, job.lease_owner) == ("extracting", new.token, "other")
    assert await library.events(document_id) == []


async def test_a_worker_stops_by_its_own_clock_when_it_cannot_renew(database: Database, library: Library) -> None:
    await library.upload("text")
    lease = await taken(database)
    lease.valid_until = asyncio.get_running_loop().time() - 0.001
    with pytest.raises(LeaseLost):
        lease.check()


async def test_a_takeover_is_not_announced_again(database: Database, library: Library) -> None:
    document_id = await library.upload("text")
    old = await taken(database)
    async with database.tenant(library.tenant_id) as session:
        await service.start(session, old)
    await run_out(database, old)
    new = await taken(database)
    assert new.announced
    async with database.tenant(library.tenant_id) as session:
        await service.start(session, new)
    assert await library.events(document_id) == [("started", 1)]


async def test_a_takeover_continues_from_the_chunks_kept(database: Database, library: Library) -> None:
    document_id = await library.upload("text")
    old = await taken(database)
    row = {
        "project_id": library.project_id, "document_id": document_id, "version": 1, "chunk_index": 0,
        "start_offset": 0, "end_offset": 4, "page": None, "text": "text",
    }  # fmt: skip
    async with database.tenant(library.tenant_id) as session:
        await service.keep_chunks(session, old, [row], first=0, total=1)
    await run_out(database, old)
    new = await taken(database)
    assert (new.chunk_count, new.stage, new.taken_over_in) == (1, "embedding", "embedding")


async def test_a_cancel_request_reaches_the_worker_with_its_heartbeat(database: Database, library: Library) -> None:
    document_id = await library.upload("text")
    lease = await taken(database)
    await library.cancel(document_id)
    assert await library.state(document_id) == "extracting"
    await renew(database, lease)
    with pytest.raises(CancelRequested):
        lease.check()


async def test_jobs_given_back_wait_again_without_loss_of_an_attempt(database: Database, library: Library) -> None:
    document_id = await library.upload("text")
    lease = await taken(database)
    async with database.system() as session:
        await leases.release(session, [lease])
    job = await library.job(document_id)
    assert (job.state, job.attempts, job.lease_owner) == ("queued", 0, None)
    assert (await taken(database)).token == 2


# --- fairness --------------------------------------------------------------------------------------------------------


async def test_a_flood_of_one_tenant_does_not_delay_another(
    database: Database, library: Library, other_library: Library
) -> None:
    for number in range(20):
        await library.upload(f"flood {number}")
    await taken(database)
    late = await other_library.upload("late")
    assert (await taken(database)).document_id == late
    assert (await taken(database)).tenant_id == library.tenant_id


async def test_tenants_with_as_much_running_are_served_oldest_first(
    database: Database, projects: ProjectsDouble
) -> None:
    libraries = [Library(database, projects, uuid.uuid4()) for _ in range(3)]
    order = [await library.upload("text") for library in libraries for _ in range(1)]
    order += [await library.upload("text") for library in libraries]
    assert [(await taken(database)).document_id for _ in range(6)] == order


async def test_interactive_goes_before_bulk_and_bulk_first_when_it_is_its_turn(
    database: Database, library: Library, other_library: Library
) -> None:
    bulk = [await library.upload(f"bulk {number}", lane="bulk") for number in range(2)]
    interactive = [await other_library.upload(f"now {number}") for number in range(2)]
    assert (await taken(database, preferred="interactive")).document_id == interactive[0]
    assert (await taken(database, preferred="bulk")).document_id == bulk[0]
    assert (await taken(database, preferred="interactive")).document_id == interactive[1]
    assert (await taken(database, preferred="interactive")).document_id == bulk[1]


async def test_a_tenant_that_fills_a_worker_is_left_out_there(
    database: Database, library: Library, other_library: Library
) -> None:
    await library.upload("text")
    assert await take(database, full={library.tenant_id}) is None
    other = await other_library.upload("text")
    assert (await taken(database, full={library.tenant_id})).document_id == other


async def test_the_cost_of_a_choice_does_not_grow_with_the_queue(
    stack: Stack, database: Database, library: Library
) -> None:
    await library.upload("text")
    async with database.tenant(library.tenant_id) as session:
        await session.execute(
            text(
                "INSERT INTO jobs (project_id, document_id, version, lane, long_running) "
                "SELECT :project, uuidv7(), 1, 'bulk', number % 2 = 0 FROM generate_series(1, 20000) AS number"
            ).execution_options(tenant_guard="stamps the tenant like any insert"),
            {"project": library.project_id},
        )
    await taken(database)
    # As Postgres does by itself, some time after so many rows have come and gone.
    owner = create_async_engine(stack.database_url("indexing", Access.OWNER), isolation_level="AUTOCOMMIT")
    async with owner.connect() as connection:
        await connection.execute(text("VACUUM (ANALYZE) indexing.jobs"))
    await owner.dispose()
    choice = leases._TAKE_NEXT
    explained = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {choice.text}").bindparams(*choice._bindparams.values())
    values = {"owner": "a", "duration": timedelta(seconds=30), "preferred": "interactive"}
    for kinds in ([False, True], [True]):
        async with database.system() as session:
            bound = {**values, "kinds": kinds, "full": [], "full_of_long": []}
            plan = (await session.execute(explained, bound)).scalar_one()[0]["Plan"]
        # Reading the queue takes more than 500 pages.
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 150


# --- jobs that take long ---------------------------------------------------------------------------------------------


async def _given_way(database: Database, lease: Lease) -> None:
    async with database.tenant(lease.tenant_id) as session:
        assert not await service.cancel(session, lease, gave_way=True)


async def test_a_job_found_to_take_long_is_taken_into_a_long_place_alone(
    database: Database, library: Library, other_library: Library
) -> None:
    document_id = await library.upload("book")
    lease = await taken(database)
    assert not lease.long_running
    await _given_way(database, lease)
    job = await library.job(document_id)
    assert (job.state, job.long_running, job.attempts, job.lease_owner) == ("queued", True, 0, None)
    assert await take(database, kinds=[False]) is None
    note = await other_library.upload("note")
    assert (await taken(database, kinds=[False])).document_id == note
    again = await taken(database, kinds=[True])
    assert (again.document_id, again.long_running, again.token) == (document_id, True, 2)


async def test_a_job_that_gave_way_is_behind_those_that_wait(database: Database, library: Library) -> None:
    documents = [await library.upload(f"book {number}") for number in range(2)]
    for _ in documents:
        await _given_way(database, await taken(database, kinds=[False]))
    first = await taken(database, kinds=[True])
    assert first.document_id == documents[0]
    await _given_way(database, first)
    assert (await taken(database, kinds=[True])).document_id == documents[1]


async def test_a_long_job_whose_worker_died_needs_a_long_place(database: Database, library: Library) -> None:
    await library.upload("book")
    await _given_way(database, await taken(database))
    lease = await taken(database)
    await run_out(database, lease)
    assert await take(database, kinds=[False]) is None
    assert (await taken(database, kinds=[True])).taken_over_in == "extracting"


async def test_a_job_that_gives_way_and_is_no_longer_wanted_ends(database: Database, library: Library) -> None:
    document_id = await library.upload("book")
    lease = await taken(database)
    await library.cancel(document_id)
    async with database.tenant(library.tenant_id) as session:
        assert await service.cancel(session, lease, gave_way=True)
    assert await library.state(document_id) == "cancelled"


async def test_long_jobs_of_others_that_wait_are_known(
    database: Database, library: Library, other_library: Library
) -> None:
    async def wait(*but: Library) -> bool:
        async with database.system() as session:
            return await leases.long_ones_wait(session, but=[library.tenant_id for library in but])

    await library.upload("note")
    assert not await wait()
    await _given_way(database, await taken(database))
    assert await wait()
    assert await wait(other_library)
    assert not await wait(library)


# --- owners ----------------------------------------------------------------------------------------------------------


def test_a_living_process_is_not_dead_and_a_gone_one_is() -> None:
    mine = lease_holders.new_owner()
    place, process_id, started, _ = mine.split(" ")
    child = subprocess.Popen(["/bin/true"])
    child.wait()
    assert not lease_holders.is_dead(mine)
    assert lease_holders.is_dead(f"{place} {child.pid} {started} x")
    assert lease_holders.is_dead(f"{place} {process_id} 1 x"), "the id is used again by another process"
    assert not lease_holders.is_dead(f"elsewhere {child.pid} {started} x")
    assert not lease_holders.is_dead("nonsense")
    assert os.getpid() == int(process_id)


async def test_leases_of_a_dead_owner_end_at_once(database: Database, library: Library) -> None:
    document_id = await library.upload("text")
    await taken(database, "dead")
    async with database.system() as session:
        assert "dead" in await leases.owners(session)
        await leases.expire(session, ["dead"])
    assert (await taken(database, "alive")).document_id == document_id
