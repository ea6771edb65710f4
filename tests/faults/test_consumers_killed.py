"""An event that ends every process which begins to handle it: given up once Redis has counted enough deliveries."""

import asyncpg
import httpx
import pytest

from shared.dead_letters import MAX_DELIVERIES
from shared.failpoints import EXIT_STATUS, VARIABLE
from shared.invalidations.owner import MOST_BEGUN
from tests.faults.fault_injection import admin_of
from tests.faults.meters import stretched
from tests.faults.watched import assert_invariants, watched_project
from tests.support.members import new_members
from tests.support.polling import eventually
from tests.support.system import System

RECOVERY_SECONDS = 15.0
LETTERS = "SELECT id, handler, attempts, reason FROM notifier.dead_letters"

# A busy machine needs a multiple of the time.
pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
async def owner(hasty: System) -> httpx.AsyncClient:
    _, client = await hasty.tenant("a deadly event")
    return client


async def test_a_deadly_event_is_given_up_and_its_consumer_lives(hasty: System, owner: httpx.AsyncClient) -> None:
    notifier = hasty.services["notifier"]
    async with watched_project(owner) as watched, admin_of(hasty.stack) as admin:
        await watched.upload(1)
        await watched.all_indexed(within=stretched(30))
        await notifier.stop()
        # One event, for two handlers; whoever begins with it dies.
        (member,) = await new_members(hasty.stack, (await owner.get("/v1/me")).json()["tenant"]["id"], 1)
        deadly = await owner.put(f"/v1/projects/{watched.project}/members/{member}", json={"role": "viewer"})
        assert deadly.status_code == 200, deadly.text
        notifier.env[VARIABLE] = "handler.after_claim=exit%1"
        deaths = 0
        try:
            while await _dies(hasty, admin):
                deaths += 1
                # It comes in two ways, by the lease and by the stream, and each gives it up for itself.
                assert deaths <= MAX_DELIVERIES + MOST_BEGUN
        finally:
            del notifier.env[VARIABLE]
        letters = await admin.fetch(LETTERS)
        # It lives, and goes on without what was turned on.
        await notifier.stop()
        await hasty.restart("notifier")
        await watched.upload(1)
        await watched.all_indexed(within=stretched(RECOVERY_SECONDS))
        watched.assert_told_once_in_order()
        # Nothing is wrong with the event: tried again, it succeeds.
        await admin.execute("UPDATE notifier.dead_letters SET redrive_requested_at = now()")

        async def redriven() -> bool:
            return bool(await admin.fetchval("SELECT bool_and(redriven_at IS NOT NULL) FROM notifier.dead_letters"))

        await eventually(redriven, within=stretched(RECOVERY_SECONDS))
        await assert_invariants(hasty.stack, dead_letters={row["id"] for row in letters})
        await admin.execute("DELETE FROM notifier.dead_letters")
    assert deaths >= MAX_DELIVERIES
    assert {row["handler"] for row in letters} == {
        "notifier.access.projects.member.changed.v1",
        "notifier.feed.projects.member.changed.v1",
    }
    assert all("NeverReturned" in row["reason"] for row in letters)


async def _dies(system: System, admin: "asyncpg.Connection[asyncpg.Record]") -> bool:
    """Start the notifier once more: does it end at the failpoint, or give the event up?"""
    notifier = system.services["notifier"]
    await notifier.start()

    async def decided() -> str:
        if not notifier.running:
            assert notifier.returncode == EXIT_STATUS, notifier.tail()
            return "dead"
        return "alive" if len(await admin.fetch(LETTERS)) == 2 else ""

    return await eventually(decided, within=stretched(30), every=0.1) == "dead"
