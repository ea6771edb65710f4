"""The worker, the notifier and the bus stand still (SIGSTOP) with work in hand, for half a minute: longer than any
timeout in the system. Then they go on, and what was taken from them meanwhile stays taken."""

import asyncio
import time

import httpx
import pytest

from tests.faults.fault_injection import admin_of, frozen
from tests.faults.meters import stretched
from tests.faults.watched import Watched, assert_invariants, watched_project
from tests.support.documents import note
from tests.support.polling import eventually
from tests.support.system import System, upload

RECOVERY_SECONDS = 10.0
FROZEN_SECONDS = 30.0
OTHER_WORKER_SECONDS = 4
RUNNING = (
    "SELECT id, fencing_token FROM indexing.jobs WHERE state IN ('extracting', 'chunking', 'embedding', 'storing')"
)
LAPSED = "SELECT count(*) FROM indexing.jobs WHERE lease_expires_at < now() AND finished_at IS NULL"
# What another worker does that finds a lapsed lease. The embedded vector store has one opener, so there is no second.
TAKE_OVER = """
    UPDATE indexing.jobs SET fencing_token = fencing_token + 1, lease_owner = 'another', attempts = attempts + 1,
        lease_expires_at = now() + $2::text::interval WHERE id = $1
"""

# A busy machine needs a multiple of the time.
pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
async def owner(hasty: System) -> httpx.AsyncClient:
    _, client = await hasty.tenant("consumers are frozen")
    return client


async def test_what_thaws_goes_on_and_what_was_taken_from_it_is_left_alone(
    hasty: System, owner: httpx.AsyncClient
) -> None:
    indexing, notifier = hasty.services["indexing"], hasty.services["notifier"]
    async with watched_project(owner) as watched, admin_of(hasty.stack) as admin:
        await watched.upload(1)
        await watched.all_indexed(within=stretched(30))
        await _upload_long(watched, 3)

        async def running() -> dict[object, int]:
            return {row["id"]: row["fencing_token"] for row in await admin.fetch(RUNNING)}

        await eventually(running, within=stretched(20))
        async with frozen(indexing, notifier):
            held = await running()
            async with frozen(hasty.stack.redis.process):
                await asyncio.sleep(FROZEN_SECONDS / 2)
            await watched.upload(2)
            assert not any(await asyncio.gather(indexing.ready(), notifier.ready()))
            await asyncio.sleep(FROZEN_SECONDS / 2)
            assert await admin.fetchval(LAPSED) == len(held) > 0
            taken = next(iter(held))
            await admin.execute(TAKE_OVER, taken, f"{OTHER_WORKER_SECONDS} seconds")
        thawed = time.monotonic()
        await asyncio.gather(
            indexing.wait_ready(stretched(RECOVERY_SECONDS)), notifier.wait_ready(stretched(RECOVERY_SECONDS))
        )
        await watched.all_indexed(within=stretched(RECOVERY_SECONDS + 20))
        taken_for = time.monotonic() - thawed
        watched.assert_told_once_in_order(late=True)
        # Under its old token it could write nothing. The other one never came back; then it was its turn again.
        assert await admin.fetchval("SELECT fencing_token FROM indexing.jobs WHERE id = $1", taken) >= held[taken] + 2
        assert taken_for >= OTHER_WORKER_SECONDS - 1
    await assert_invariants(hasty.stack)


async def _upload_long(watched: Watched, count: int) -> None:
    """Documents that take some seconds each."""
    for number in range(count):
        watched.documents.append(
            await upload(watched.client, watched.project, f"long-{number}.txt", note(number, size=60_000))
        )
