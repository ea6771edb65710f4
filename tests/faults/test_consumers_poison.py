"""Entries that no delivery can bring to an end: quarantined with their evidence, while good ones pass them by.

A poisonous event is a real one, of a document whose name the consumers' tables refuse for now: the schema is what is
broken, and mending it is the fix after which a redrive succeeds.
"""

import sys
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from infra.local.processes import Process
from infra.local.stack import Stack
from infra.operator.dead_letters import FAILED
from shared.dead_letters import MAX_DELIVERIES
from shared.events.envelope import Envelope
from shared.events.identity import TenantDeleted
from shared.events.projects import DocumentUpdated
from tests.faults.conftest import IDLE_MS
from tests.faults.fault_injection import admin_of, redis_of
from tests.faults.meters import stretched
from tests.faults.watched import assert_invariants, watched_project
from tests.support.polling import eventually
from tests.support.system import System, search, upload

GOOD = 1_000
PASS_SECONDS = 25.0
# Each delivery but the first waits until its entry has been idle, and for the next look at what is idle.
QUARANTINE_SECONDS = MAX_DELIVERIES * (IDLE_MS / 1000 + 1.5)

BREAK = (
    "ALTER TABLE indexing.documents ADD CONSTRAINT broken CHECK (name <> 'poison.txt') NOT VALID",
    "ALTER TABLE notifier.feed_events ADD CONSTRAINT broken CHECK (data ->> 'name' IS DISTINCT FROM 'poison.txt') "
    "NOT VALID",
)
MEND = (
    "ALTER TABLE indexing.documents DROP CONSTRAINT broken",
    "ALTER TABLE notifier.feed_events DROP CONSTRAINT broken",
)
LETTERS = """
    SELECT 'indexing' AS service, id, handler, attempts, event_id, payload, reason FROM indexing.dead_letters
    UNION ALL SELECT 'notifier', id, handler, attempts, event_id, payload, reason FROM notifier.dead_letters
    UNION ALL SELECT 'projects', id, handler, attempts, event_id, payload, reason FROM projects.dead_letters
"""
# Written as a thousand requests would have: each an event with the next version of its project.
GOOD_EVENTS = """
    INSERT INTO projects.outbox (tenant_id, type, subject, sequence, data)
    SELECT tenant_id, 'projects.member.changed.v1', id::text, revision + number,
        jsonb_build_object('project_id', id, 'actor_id', NULL, 'user_id', gen_random_uuid(), 'role', 'viewer')
    FROM projects.projects, generate_series($2::int, $3::int) AS number WHERE id = $1
"""
GROWN = "UPDATE projects.projects SET revision = revision + $2 WHERE id = $1"
HEARD = (
    "INSERT INTO notifier.inbox (tenant_id, event_id, handler) "
    "VALUES ($1, $2, 'notifier.feed.projects.document.updated.v1')"
)
FORGET = (
    "DELETE FROM indexing.dead_letters",
    "DELETE FROM notifier.dead_letters",
    "DELETE FROM projects.dead_letters",
)

Row = asyncpg.Record

# A busy machine needs a multiple of the time.
pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
async def admin(hasty: System) -> "AsyncIterator[asyncpg.Connection[Row]]":
    """A superuser; whatever letters a test leaves are removed."""
    async with admin_of(hasty.stack) as connection:
        yield connection
        for statement in FORGET:
            await connection.execute(statement)


@pytest.fixture(scope="module")
async def owner(hasty: System) -> httpx.AsyncClient:
    _, client = await hasty.tenant("poison")
    return client


async def test_poison_is_quarantined_while_good_events_pass_and_a_redrive_mends_it(
    hasty: System, owner: httpx.AsyncClient, admin: "asyncpg.Connection[Row]"
) -> None:
    async with watched_project(owner) as watched:
        async with _broken(admin):
            began = time.monotonic()
            await admin.execute(GOOD_EVENTS, uuid.UUID(watched.project), 1, GOOD // 2)
            poisoned = await upload(owner, watched.project, "poison.txt", b"The antidote is mandragora.")
            await _add(hasty.stack, "events.projects", b"\xff not a CloudEvent")
            await admin.execute(GOOD_EVENTS, uuid.UUID(watched.project), GOOD // 2 + 1, GOOD)
            await admin.execute(GROWN, uuid.UUID(watched.project), GOOD)

            async def all_told() -> bool:
                return len(watched.live.of("member.changed")) == GOOD

            await eventually(all_told, within=stretched(PASS_SECONDS), every=0.1)
            passed = time.monotonic() - began
            letters = await _quarantined(admin, 4)
        _assert_evidence(letters, poisoned)
        await _redrive_all(hasty.stack)
        await watched.live.until(lambda seen: seen.of("document.uploaded"), within=stretched(10))
        await watched.live.until(lambda seen: seen.of("document.indexed"), within=stretched(10))
        found = await search(owner, watched.project, "mandragora", mode="keyword")
        assert [item["document_id"] for item in found] == [poisoned]
    print(f"\n{GOOD} good events were told {passed:.2f} s after the first was written")
    await assert_invariants(hasty.stack, dead_letters={row["id"] for row in letters})


async def test_an_event_that_contradicts_itself_or_is_too_new_changes_nothing(
    hasty: System, owner: httpx.AsyncClient, admin: "asyncpg.Connection[Row]"
) -> None:
    """An event about one tenant in another's name; a major version nobody knows; an update of an unknown document."""
    (mine, _), (_, other) = await hasty.tenant("poison forged"), await hasty.tenant("poison victim")
    async with watched_project(other) as watched:
        await watched.upload(1)
        await watched.all_indexed(within=stretched(30))
        victim = (await other.get("/v1/me")).json()["tenant"]["id"]
        for named, meant in ((mine, victim), (victim, mine)):
            await _add(hasty.stack, "events.identity", _envelope(TenantDeleted(tenant_id=uuid.UUID(meant)), named))
        unknown = DocumentUpdated(
            project_id=uuid.UUID(watched.project), document_id=uuid.uuid4(), version=1, name="no.txt", metadata={}
        )
        envelope = _envelope(unknown, victim)
        event_id = uuid.UUID(orjson.loads(envelope)["id"])
        # The notifier tells of whatever projects says; this one it has told of.
        await admin.execute(HEARD, uuid.UUID(victim), event_id)
        await _add(hasty.stack, "events.projects", envelope)
        newer = orjson.loads(_envelope(unknown, victim)) | {"type": "projects.document.uploaded.v2"}
        await _add(hasty.stack, "events.projects", orjson.dumps(newer))
        letters = await _quarantined(admin, 11)
        assert sorted((row["service"], row["handler"], row["attempts"]) for row in letters) == [
            ("indexing", "decode", 1),
            ("indexing", "indexing.on_document_updated", MAX_DELIVERIES),
            ("indexing", "indexing.on_tenant_deleted", MAX_DELIVERIES),
            ("indexing", "indexing.on_tenant_deleted", MAX_DELIVERIES),
            ("indexing", "indexing.runs.on_tenant_deleted", MAX_DELIVERIES),
            ("indexing", "indexing.runs.on_tenant_deleted", MAX_DELIVERIES),
            ("notifier", "decode", 1),
            ("notifier", "notifier.forget_tenant", MAX_DELIVERIES),
            ("notifier", "notifier.forget_tenant", MAX_DELIVERIES),
            ("projects", "projects.forget_tenant", MAX_DELIVERIES),
            ("projects", "projects.forget_tenant", MAX_DELIVERIES),
        ]
        await watched.upload(1)
        await watched.all_indexed(within=stretched(10))
        watched.assert_told_once_in_order()
        await admin.execute("DELETE FROM notifier.inbox WHERE event_id = $1", event_id)
    await assert_invariants(hasty.stack, dead_letters={row["id"] for row in letters})


def _assert_evidence(letters: Sequence[Row], poisoned: str) -> None:
    """For each consumer one letter for the event and one for what is none, with all that is needed to understand it."""
    assert sorted((row["service"], row["handler"], row["attempts"]) for row in letters) == [
        ("indexing", "decode", 1),
        ("indexing", "indexing.on_document_uploaded", MAX_DELIVERIES),
        ("notifier", "decode", 1),
        ("notifier", "notifier.feed.projects.document.uploaded.v1", MAX_DELIVERIES),
    ]
    for row in letters:
        if row["handler"] == "decode":
            assert row["payload"] == b"\xff not a CloudEvent"
        else:
            assert orjson.loads(row["payload"])["data"]["document_id"] == poisoned
            assert "broken" in row["reason"]


@asynccontextmanager
async def _broken(admin: "asyncpg.Connection[Row]") -> AsyncIterator[None]:
    for statement in BREAK:
        await admin.execute(statement)
    try:
        yield
    finally:
        for statement in MEND:
            await admin.execute(statement)


async def _quarantined(admin: "asyncpg.Connection[Row]", count: int) -> list[Row]:
    async def all_there() -> list[Any]:
        rows = await admin.fetch(LETTERS)
        return list(rows) if len(rows) >= count else []

    return await eventually(all_there, within=stretched(QUARANTINE_SECONDS), every=0.1)


async def _redrive_all(stack: Stack) -> None:
    """The operator's command, which fails for what cannot be decoded, whatever is mended."""
    environment = {**stack.environment("indexing"), **stack.environment("notifier")}
    arguments = ["-m", "infra.operator.dead_letters", "redrive", "--all", "--wait", "30"]
    command = Process("redrive", [sys.executable, *arguments], env=environment, cwd=stack.home.root)
    try:
        await command.start()
        assert await command.wait() == FAILED, command.tail(20)
    finally:
        await command.stop()


async def _add(stack: Stack, stream: str, raw: bytes) -> None:
    async with redis_of(stack) as redis:
        await redis.xadd(stream, {"event": raw})


def _envelope(event: TenantDeleted | DocumentUpdated, tenant: str) -> bytes:
    return Envelope.wrap(
        event,
        event_id=uuid.uuid4(),
        tenant_id=uuid.UUID(tenant),
        sequence=1_000,
        traceparent=None,
        correlation_id=None,
        causation_id=None,
    ).to_json()
