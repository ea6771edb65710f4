"""PostgreSQL stops answering without closing a connection (SIGSTOP), and goes on later."""

import asyncio

import httpx
import pytest

from tests.faults.fault_injection import frozen
from tests.faults.meters import measure, stretched
from tests.faults.watched import assert_invariants, watched_project
from tests.support.polling import eventually
from tests.support.system import System

pytestmark = pytest.mark.long

RECOVERY_SECONDS = 10.0
# Five for a statement on a connection that was open, less for everybody after; the rest is for a busy machine.
ANSWER_SECONDS = 6.5
WITH_DATABASE = ("identity", "projects", "indexing", "notifier")


@pytest.fixture(scope="module")
async def owner(hasty: System) -> httpx.AsyncClient:
    _, client = await hasty.tenant("postgres is frozen")
    return client


async def test_a_frozen_database_is_503_in_time_and_all_goes_on_after_it(
    hasty: System, owner: httpx.AsyncClient
) -> None:
    services = [hasty.services[name] for name in WITH_DATABASE]
    async with watched_project(owner) as watched:
        await watched.upload(5)
        path = f"/v1/projects/{watched.project}/documents"
        async with frozen(hasty.stack.postgres.process):
            # With and without a connection left from before.
            for _ in range(2):
                for answer in await asyncio.gather(*(owner.get(path) for _ in range(30))):
                    assert answer.status_code == 503, answer.text
                    assert int(answer.headers["Retry-After"]) >= 1
                    assert answer.elapsed.total_seconds() < stretched(ANSWER_SECONDS)
            assert not any(await asyncio.gather(*(service.ready() for service in services)))
            readings = await measure(hasty.services.values(), seconds=5)
        await asyncio.gather(*(service.wait_ready(stretched(RECOVERY_SECONDS)) for service in services))
        await eventually(lambda: _works(owner, path), within=stretched(RECOVERY_SECONDS))
        await watched.upload(2)
        await watched.all_indexed(within=stretched(RECOVERY_SECONDS))
        # An event whose handler met the frozen database comes again, behind those that followed it.
        watched.assert_told_once_in_order(late=True)
    await assert_invariants(hasty.stack)
    print("\nPostgres frozen", *readings, sep="\n  ")
    for reading in readings:
        assert reading.cpu < 0.2, reading
        assert reading.lines < 5, reading


async def _works(client: httpx.AsyncClient, path: str) -> bool:
    return (await client.get(path)).status_code == 200
