"""While Redis takes nothing, uploads are accepted until too many events wait; afterwards they are
refused, and accepted again once the backlog has been worked off."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.faults.fault_injection import redis_is_a_replica
from tests.faults.meters import stretched
from tests.faults.watched import Watched, assert_invariants, watched_project
from tests.support.documents import note
from tests.support.polling import eventually
from tests.support.system import System, all_documents

pytestmark = pytest.mark.long

LIMIT = 30
# A process looks at its backlog each second; so many may slip in meanwhile.
MOST_TOO_MANY = 120
RECOVERY_SECONDS = 10.0
WORKERS = 4
VARIABLE = "QUARRY_PROJECTS_OUTBOX_BACKLOG_LIMIT"


@pytest.fixture
async def owner(hasty: System) -> AsyncIterator[httpx.AsyncClient]:
    """A client of projects with a low limit."""
    projects = hasty.services["projects"]
    await projects.stop()
    projects.env[VARIABLE] = str(LIMIT)
    await hasty.restart("projects")
    _, client = await hasty.tenant("backlog")
    yield client
    del projects.env[VARIABLE]
    await projects.stop()
    await hasty.restart("projects")


async def test_events_are_refused_at_a_full_backlog_until_it_is_worked_off(
    hasty: System, owner: httpx.AsyncClient
) -> None:
    async with watched_project(owner) as watched:
        async with redis_is_a_replica(hasty.stack):
            refused = await asyncio.gather(*(_upload_until_refused(watched, number) for number in range(WORKERS)))
            for answer in refused:
                assert answer.status_code == 503, answer.text
                assert answer.json()["code"] == "backlog_full"
                assert int(answer.headers["Retry-After"]) >= 1
            # What is there can still be read; what was refused is not there.
            listed = await all_documents(owner, watched.project)
            assert {item["id"] for item in listed} == set(watched.documents)
            assert LIMIT - WORKERS <= len(listed) <= LIMIT + MOST_TOO_MANY

        async def accepted() -> bool:
            return (await _upload(watched, 0)).status_code == 201

        await eventually(accepted, within=stretched(RECOVERY_SECONDS), every=0.2)
        # They are many, so a while is given to indexing itself.
        await watched.all_indexed(within=stretched(RECOVERY_SECONDS + len(watched.documents) * 0.5))
        watched.assert_told_once_in_order()
    await assert_invariants(hasty.stack)


async def _upload_until_refused(watched: Watched, worker: int) -> httpx.Response:
    for number in range(LIMIT + MOST_TOO_MANY):
        answer = await _upload(watched, 1000 * worker + number)
        if answer.status_code != 201:
            return answer
    raise AssertionError("uploads of one client alone are more than there may be")


async def _upload(watched: Watched, number: int) -> httpx.Response:
    answer = await watched.client.post(
        f"/v1/projects/{watched.project}/documents",
        params={"name": f"note-{number}.txt"},
        content=note(number, size=200),
        headers={"Content-Type": "text/plain"},
    )
    if answer.status_code == 201:
        watched.documents.append(answer.json()["id"])
    return answer
