"""PostgreSQL answers, but not as wished: read-only, out of connections, blocked by somebody's lock, deadlocked.

The client hears 503 with `Retry-After` in bounded time, nothing is half written, no connection keeps a tenant, and all
goes on by itself when the cause is gone.
"""

import asyncio
import uuid
from dataclasses import dataclass

import asyncpg
import httpx
import pytest

from tests.faults.fault_injection import admin_of, postgres_is_read_only
from tests.faults.meters import stretched
from tests.faults.watched import assert_invariants, watched_project
from tests.support.documents import note
from tests.support.polling import eventually
from tests.support.system import System, all_documents, create_project

pytestmark = pytest.mark.long

# At most 1.5 s for a connection and then 1.5 s for a lock; the rest is for a busy machine.
ANSWER_SECONDS = 4.0
RECOVERY_SECONDS = 10.0


@dataclass(slots=True)
class Tenants:
    """Two tenants of the same services."""

    one: httpx.AsyncClient
    other: httpx.AsyncClient


@pytest.fixture(scope="module")
async def tenants(hasty: System) -> Tenants:
    (_, one), (_, other) = await hasty.tenant("postgres refuses one"), await hasty.tenant("postgres refuses other")
    return Tenants(one, other)


async def test_a_read_only_database_is_503_for_writes_and_serves_reads(hasty: System, tenants: Tenants) -> None:
    async with watched_project(tenants.one) as watched:
        await watched.upload(2)
        await watched.all_indexed(within=stretched(30))
        async with postgres_is_read_only(hasty.stack):
            for answer in [await _upload(tenants.one, watched.project, number) for number in range(3)]:
                assert_refused(answer)
            assert len(await all_documents(tenants.one, watched.project)) == 2
        await watched.upload(2)
        documents = await watched.all_indexed(within=stretched(RECOVERY_SECONDS))
        assert len(documents) == 4
        watched.assert_told_once_in_order()
    await assert_invariants(hasty.stack)


async def test_requests_behind_a_lock_are_refused_in_time_and_leave_nothing(hasty: System, tenants: Tenants) -> None:
    project, foreign = await create_project(tenants.one), await create_project(tenants.other)
    async with admin_of(hasty.stack) as admin, admin.transaction():
        await admin.execute("LOCK TABLE projects.documents IN ACCESS EXCLUSIVE MODE")
        # More than the pool has connections: some wait for the lock, the rest for a connection.
        answers = await asyncio.gather(
            *(_upload(tenants.one, project, number) for number in range(20)),
            *(_upload(tenants.other, foreign, number) for number in range(20)),
        )
    for answer in answers:
        assert_refused(answer)
    # The connections that waited are back at once, and belong to no tenant.
    after = await asyncio.gather(*(_list_two(tenants, project, foreign) for _ in range(20)))
    assert after == [([], [], 404, 404)] * 20
    assert (await _upload(tenants.one, project, 1)).status_code == 201
    await assert_invariants(hasty.stack)


async def test_the_victim_of_a_deadlock_is_refused_and_has_done_nothing(hasty: System, tenants: Tenants) -> None:
    async with watched_project(tenants.one) as watched, admin_of(hasty.stack) as admin:
        await watched.upload(2)
        await watched.all_indexed(within=stretched(30))
        wanted, kept = watched.documents
        path = f"/v1/projects/{watched.project}/documents/{wanted}"
        async with admin.transaction():
            await admin.execute("LOCK TABLE projects.blob_deletions IN EXCLUSIVE MODE")
            deleting = asyncio.create_task(tenants.one.delete(path))
            # It has locked the document and waits for the table. Wanting the document as well closes the circle; who
            # waits longest finds out first and is ended.
            await eventually(lambda: _somebody_waits(admin))
            await admin.execute("SELECT FROM projects.documents WHERE id = $1 FOR UPDATE", uuid.UUID(wanted))
            assert_refused(await deleting)
        assert {item["id"] for item in await all_documents(tenants.one, watched.project)} == {wanted, kept}
        assert (await tenants.one.delete(path)).status_code == 204
        await watched.live.until(lambda seen: seen.of("document.deleted"), within=stretched(RECOVERY_SECONDS))
        assert [frame.data["document_id"] for frame in watched.live.of("document.deleted")] == [wanted]
    await assert_invariants(hasty.stack)


async def _somebody_waits(admin: "asyncpg.Connection[asyncpg.Record]") -> bool:
    waiting = (
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'projects.blob_deletions'::regclass)"
    )
    return bool(await admin.fetchval(waiting))


def assert_refused(answer: httpx.Response) -> None:
    """503, soon, with the time to come back; as a problem document that gives nothing away."""
    assert answer.status_code == 503, (answer.status_code, answer.text)
    assert 1 <= int(answer.headers["Retry-After"]) <= 10
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "unavailable"
    assert answer.elapsed.total_seconds() < stretched(ANSWER_SECONDS), answer.elapsed


async def _upload(client: httpx.AsyncClient, project: str, number: int) -> httpx.Response:
    return await client.post(
        f"/v1/projects/{project}/documents",
        params={"name": f"note-{number}.txt"},
        content=note(number, size=500),
        headers={"Content-Type": "text/plain"},
    )


async def _list_two(tenants: Tenants, project: str, foreign: str) -> tuple[list[object], list[object], int, int]:
    """What each of two tenants sees of its own project and of the other's."""
    crossed = await asyncio.gather(
        tenants.one.get(f"/v1/projects/{foreign}/documents"), tenants.other.get(f"/v1/projects/{project}/documents")
    )
    own = await asyncio.gather(all_documents(tenants.one, project), all_documents(tenants.other, foreign))
    return list(own[0]), list(own[1]), crossed[0].status_code, crossed[1].status_code
