"""A consumer whose work takes long, because Postgres lets it wait: late is not lost, nor left behind, nor poison."""

import asyncio

import httpx
import pytest

from shared.dead_letters import MAX_DELIVERIES
from tests.faults.conftest import IDLE_MS
from tests.faults.fault_injection import admin_of
from tests.faults.meters import stretched
from tests.faults.watched import assert_invariants, watched_project
from tests.support.system import System

pytestmark = pytest.mark.long

RECOVERY_SECONDS = 15.0
# Long enough for an entry to be taken from its consumer as often as it takes to become a dead letter.
BLOCKED_SECONDS = IDLE_MS / 1000 * (MAX_DELIVERIES + 1)


@pytest.fixture(scope="module")
async def owner(hasty: System) -> httpx.AsyncClient:
    _, client = await hasty.tenant("consumers are blocked")
    return client


async def test_events_behind_a_lock_are_applied_when_it_is_gone(hasty: System, owner: httpx.AsyncClient) -> None:
    async with watched_project(owner) as watched:
        await watched.upload(2)
        await watched.all_indexed(within=stretched(30))
        async with admin_of(hasty.stack) as admin, admin.transaction():
            await admin.execute("LOCK TABLE notifier.feed_events, projects.inbox IN EXCLUSIVE MODE")
            await watched.upload(4)
            await asyncio.sleep(BLOCKED_SECONDS)
        await watched.all_indexed(within=stretched(RECOVERY_SECONDS))
        await watched.live.until(
            lambda seen: len(seen.of("document.uploaded")) == 6, within=stretched(RECOVERY_SECONDS)
        )
        watched.assert_told_once_in_order(late=True)
    await assert_invariants(hasty.stack)
