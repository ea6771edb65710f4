"""Every event comes again: twice, in any order, and so late that no inbox remembers it. Nothing happens a second time,
and nothing that was deleted rises."""

import random
import uuid
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from shared.events.envelope import Envelope
from shared.events.subscriptions import HANDLED
from tests.faults.fault_injection import admin_of, frozen, redis_of
from tests.faults.invariants import checker
from tests.faults.meters import stretched
from tests.faults.watched import Watched, assert_invariants, watched_project
from tests.support.documents import broken_pdf
from tests.support.members import new_members
from tests.support.polling import eventually
from tests.support.system import System, create_project, settled

pytestmark = pytest.mark.long

SEED = 20
# Everything a consumer of these events keeps, and what it told because of them.
STATE = {
    "SELECT to_jsonb(t) - 'updated_at' AS row FROM projects.projects t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(t) - 'updated_at' AS row FROM projects.project_members t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(t) AS row FROM projects.batches t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(t) - 'updated_at' AS row FROM projects.documents t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(t) - 'updated_at' AS row FROM indexing.documents t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(t) - 'updated_at' AS row FROM indexing.jobs t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(t) - 'updated_at' AS row FROM indexing.chunks t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(t) AS row FROM indexing.known_projects t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(t) AS row FROM indexing.project_access t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(t) AS row FROM notifier.known_projects t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(t) AS row FROM notifier.project_access t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(t) AS row FROM notifier.feeds t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(t) AS row FROM notifier.feed_events t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(t) - 'due_at' AS row FROM notifier.run_feeds t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(t) AS row FROM notifier.run_events t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(t) AS row FROM projects.document_purges t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(t) AS row FROM notifier.document_purges t WHERE tenant_id = $1 ORDER BY 1",
    "SELECT to_jsonb(count(*)) AS row FROM notifier.outbox WHERE tenant_id = $1",
    "SELECT to_jsonb(count(*)) AS row FROM projects.outbox WHERE tenant_id = $1",
    "SELECT to_jsonb(count(*)) AS row FROM indexing.outbox WHERE tenant_id = $1",
}
EVENTS = """
    SELECT 'projects' AS producer, id, tenant_id, type, subject, sequence, time, data FROM projects.outbox
    WHERE tenant_id = $1
    UNION ALL
    SELECT 'indexing', id, tenant_id, type, subject, sequence, time, data FROM indexing.outbox WHERE tenant_id = $1
    UNION ALL
    SELECT 'notifier', id, tenant_id, type, subject, sequence, time, data FROM notifier.outbox WHERE tenant_id = $1
    UNION ALL
    SELECT 'identity', id, tenant_id, type, subject, sequence, time, data FROM identity.outbox WHERE tenant_id = $1
"""
# As after the days for which inboxes are kept.
FORGET = (
    "DELETE FROM projects.inbox WHERE tenant_id = $1",
    "DELETE FROM indexing.inbox WHERE tenant_id = $1",
    "DELETE FROM notifier.inbox WHERE tenant_id = $1",
)


async def test_what_comes_again_changes_nothing(hasty: System) -> None:
    tenant, client = await hasty.tenant("repeated")
    async with watched_project(client) as watched, admin_of(hasty.stack) as admin:
        await _live(hasty, watched, tenant)
        await assert_invariants(hasty.stack)
        before = await _state(admin, tenant)
        events = await admin.fetch(EVENTS, uuid.UUID(tenant))
        chance = random.Random(SEED)

        told = {row["type"] for row in events}
        handled = {
            event.type for kinds in HANDLED.values() for event in kinds if not event.type.startswith("identity.")
        }
        # Whether it is cancelled in time is decided by a race with its worker; no worker of a run is killed here.
        by_chance = {"indexing.job.cancelled.v1", "projects.document.cancelled.v1", "indexing.run_answer.restarted.v1"}
        assert handled - told <= by_chance

        for forgotten in ((), FORGET):
            for statement in forgotten:
                await admin.execute(statement, uuid.UUID(tenant))
            await _again(hasty, chance.sample([*events, *events], 2 * len(events)))
            assert await _state(admin, tenant) == before
        heard = len(watched.live.durable)
        assert [frame.id for frame in watched.live.durable] == list(range(1, heard + 1))
    await assert_invariants(hasty.stack)


async def _live(hasty: System, watched: Watched, tenant: str) -> None:
    """A life in which every kind of event occurs."""
    client, path = watched.client, f"/v1/projects/{watched.project}"

    async def ok(method: str, path: str, **more: Any) -> httpx.Response:
        answer = await client.request(method, path, **more)
        assert answer.is_success, answer.text
        return answer

    # Frozen, it cannot be done with the document before somebody asks it not to begin.
    async with frozen(hasty.services["indexing"]):
        await watched.upload(4)
        await ok("POST", f"{path}/documents/{watched.documents[0]}/cancel")
    broken = await ok(
        "POST", f"{path}/documents", params={"name": "broken.pdf"}, content=broken_pdf(),
        headers={"Content-Type": "application/pdf"},
    )  # fmt: skip
    await settled(client, watched.project, 5)
    await ok("POST", f"{path}/documents/{broken.json()['id']}/retry")
    await ok("PATCH", f"{path}/documents/{watched.documents[1]}", json={"name": "renamed.txt", "metadata": {"a": 1}})
    await ok("DELETE", f"{path}/documents/{watched.documents[2]}")
    batch = await ok("POST", f"{path}/batches", json={})
    await ok("POST", f"{path}/batches/{batch.json()['id']}/close")
    for is_kept in (True, False):
        run = await ok("POST", f"{path}/runs", json={"agent": "summarise", "input": {"filter": None}})
        await _run_ended(client, f"{path}/runs/{run.json()['id']}")
        if not is_kept:
            await ok("DELETE", f"{path}/runs/{run.json()['id']}")
    (user,) = await new_members(hasty.stack, tenant, 1)
    await ok("PUT", f"{path}/members/{user}", json={"role": "editor"})
    await ok("DELETE", f"{path}/members/{user}")
    for project, restored in (
        (await create_project(client, "kept"), True),
        (await create_project(client, "gone"), False),
    ):
        tag = (await ok("GET", f"/v1/projects/{project}")).headers["ETag"]
        tag = (await ok("PATCH", f"/v1/projects/{project}", json={"name": "other"}, headers={"If-Match": tag})).headers[
            "ETag"
        ]
        await ok("DELETE", f"/v1/projects/{project}", headers={"If-Match": tag})
        if restored:
            await ok("POST", f"/v1/projects/{project}/restore")
    await settled(client, watched.project, 4)


async def _run_ended(client: httpx.AsyncClient, path: str) -> None:
    async def ended() -> bool:
        return (await client.get(path)).json()["status"] not in ("queued", "running")

    await eventually(ended, within=stretched(10))


async def _again(system: System, events: list[asyncpg.Record]) -> None:
    """The same events as other entries, and the end of what they cause."""
    async with redis_of(system.stack) as redis, redis.pipeline(transaction=False) as pipeline:
        for row in events:
            envelope = Envelope(
                id=row["id"],
                source=f"/quarry/{row['producer']}",
                type=row["type"],
                subject=row["subject"],
                time=row["time"],
                tenantid=row["tenant_id"],
                sequence=row["sequence"],
                data=orjson.loads(row["data"]),
            )
            pipeline.xadd(f"events.{row['producer']}", {"event": envelope.to_json()})
        await pipeline.execute()
    async with checker(system.stack) as check:
        report = await check.quiet(within=stretched(20))
    assert not report.violations, report


async def _state(admin: "asyncpg.Connection[asyncpg.Record]", tenant: str) -> dict[str, list[Any]]:
    return {query: [row["row"] for row in await admin.fetch(query, uuid.UUID(tenant))] for query in STATE}
