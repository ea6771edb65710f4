"""Each check of the invariants can fail: a violation is planted and has to be found. In an orderly world none is."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import orjson
import pytest
from redis.asyncio import Redis

from infra.local.home import Home
from infra.local.stack import Stack
from infra.postgres.roles import DATABASE
from shared.events.subscriptions import SUBSCRIBERS
from shared.redis_clients import stream_of
from tests.faults import acknowledged, blobs, transcripts, views, world
from tests.faults.invariants import Checker, Stores, checker
from tests.faults.report import Report, Violation
from tests.faults.world import World
from tests.support.servers import servers
from tests.support.sse import Frame
from tests.support.stacks import migrate_all


class Watched:
    """The world, its stores, and the checker that looks at them."""

    def __init__(self, stack: Stack, postgres: asyncpg.Connection, redis: Redis, made: World) -> None:
        self.stack, self.postgres, self.redis, self.world = stack, postgres, redis, made
        self.checker = Checker(Stores.of(stack), postgres, redis)

    @property
    def blobs(self) -> Path:
        return self.stack.home.blobs

    async def found(self) -> Report:
        """What the checks find now, of everything."""
        report = Report()
        report.add(await self.checker.check())
        report.add(await acknowledged.check(self.postgres, self.world.ledger()))
        report.add(await transcripts.check(self.postgres, [self.world.listener()]))
        report.add(await blobs.check(self.postgres, self.blobs, self.world.ledger()))
        return report

    @asynccontextmanager
    async def broken(self, statement: str, *arguments: object) -> AsyncIterator[None]:
        """The world with a change, taken back at the end."""
        transaction = self.postgres.transaction()
        await transaction.start()
        try:
            await self.postgres.execute("SET CONSTRAINTS ALL DEFERRED")
            assert await self.postgres.execute(statement, *arguments) not in ("UPDATE 0", "DELETE 0")
            yield
        finally:
            await transaction.rollback()


@pytest.fixture(scope="module")
async def watched(folders: Callable[[str], Path]) -> AsyncIterator[Watched]:
    async with Stack(Home(folders("invariants")), durable=False, with_oidc=False, servers=servers()) as stack:
        await migrate_all(stack)
        postgres = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
        redis = Redis.from_url(stack.redis.url())
        try:
            await postgres.execute(views.VIEWS)
            yield Watched(stack, postgres, redis, await world.build(postgres, redis, stack.home.blobs))
        finally:
            await redis.aclose()
            await postgres.close()


def named(report: Report) -> set[tuple[str, str]]:
    return {(violation.invariant, violation.what) for violation in report.violations}


async def test_an_orderly_world_breaks_nothing(watched: Watched) -> None:
    report = await watched.found()
    assert not report.violations, report


PLANTED: dict[str, tuple[str, str, str]] = {
    "a project is gone": (
        "I1",
        "not as the client was told",
        "UPDATE projects.projects SET deleted_at = now() WHERE id = $1",
    ),
    "a project lost its new name": (
        "I1",
        "not as the client was told",
        "UPDATE projects.projects SET name = 'Draft' WHERE id = $1",
    ),
    "a deleted document is back": (
        "I1",
        "not as the client was told",
        "UPDATE projects.documents SET deleted_at = NULL WHERE project_id = $1 AND deleted_at IS NOT NULL",
    ),
    "a command's event was never written": (
        "I1",
        "not as the client was told",
        "DELETE FROM projects.outbox WHERE data ->> 'project_id' = $1::uuid::text AND type LIKE '%uploaded%'",
    ),
    "a handler missed an event": (
        "I2",
        "event not applied by its handler",
        "DELETE FROM indexing.inbox WHERE handler = 'indexing.on_document_deleted' AND $1::uuid IS NOT NULL",
    ),
    "a handler applied what nobody published": (
        "I2",
        "applied from nowhere",
        "INSERT INTO indexing.inbox (tenant_id, event_id, handler) "
        "VALUES ($1, uuidv7(), 'indexing.on_document_uploaded')",
    ),
    "an event is in no feed": (
        "I3",
        "event in no feed",
        "DELETE FROM notifier.feed_events WHERE type = 'document.indexed' AND project_id = $1",
    ),
    "a feed row comes from nowhere": (
        "I3",
        "feed row twice or from nowhere",
        "UPDATE notifier.feed_events SET event_id = uuidv7() WHERE type = 'document.indexed' AND project_id = $1",
    ),
    "a feed has a gap": (
        "I3",
        "feed numbered with a gap",
        "UPDATE notifier.feeds SET last_sequence = last_sequence + 1 WHERE feed_id = $1",
    ),
    "a feed has a number twice": (
        "I3",
        "feed numbered with a gap",
        "UPDATE notifier.feed_events SET sequence = 99 WHERE sequence = 1 AND project_id = $1",
    ),
    "a document has no job": (
        "I3",
        "document and job disagree",
        "DELETE FROM indexing.jobs WHERE state = 'indexed' AND project_id = $1",
    ),
    "a document missed how its job ended": (
        "I3",
        "document and job disagree",
        "UPDATE projects.documents SET status = 'failed' WHERE status = 'indexed' AND project_id = $1",
    ),
    "a document missed the last news of its job": (
        "I3",
        "document and job disagree",
        "UPDATE projects.documents SET job_sequence = 1 WHERE status = 'indexed' AND project_id = $1",
    ),
    "an indexed document lost its chunks": (
        "I3",
        "document and job disagree",
        "DELETE FROM indexing.chunks WHERE project_id = $1",
    ),
    "a deleted document is still known to search": (
        "I3",
        "left of a deleted document",
        "UPDATE indexing.documents SET deleted = false WHERE deleted AND project_id = $1",
    ),
    "a project has lost count of its documents": (
        "I3",
        "documents of a project miscounted",
        "UPDATE projects.project_contents SET indexed = indexed - 1 WHERE project_id = $1",
    ),
    "a deletion has no receipt": (
        "I3",
        "tombstone without one receipt",
        "UPDATE projects.document_purges SET purged_at = NULL WHERE $1::uuid IS NOT NULL",
    ),
    "a receipt came too early": (
        "I3",
        "receipt before all is gone",
        "INSERT INTO indexing.chunks (tenant_id, project_id, document_id, version, chunk_index, start_offset, "
        "end_offset, text) SELECT tenant_id, $1, document_id, 1, 0, 0, 7, 'A note.' FROM projects.document_purges",
    ),
    "a version is missing": (
        "I4",
        "versions not contiguous",
        "UPDATE projects.documents SET revision = 4 WHERE status = 'indexed' AND project_id = $1",
    ),
    "a version was published twice": (
        "I4",
        "versions not contiguous",
        "INSERT INTO projects.outbox (tenant_id, type, subject, sequence, data, published_at) "
        "SELECT tenant_id, type, subject, sequence, data, now() FROM projects.outbox WHERE subject = $1::uuid::text",
    ),
    "a job runs and nobody holds it": (
        "I6",
        "job runs without a lease",
        "UPDATE indexing.jobs SET state = 'embedding', lease_owner = 'dead', lease_expires_at = now() - interval '1 s' "
        "WHERE state = 'indexed' AND project_id = $1",
    ),
    "an event is quarantined": (
        "I7",
        "unexpected dead letter",
        "INSERT INTO notifier.dead_letters (stream, entry_id, consumer_group, handler, reason, attempts, payload) "
        "SELECT 'events.projects', '1-1', 'notifier', 'decode', 'poison', 1, '' WHERE $1::uuid IS NOT NULL",
    ),
    "an event has another tenant than its document": (
        "I9",
        "foreign tenant",
        "UPDATE projects.outbox SET tenant_id = uuidv7() "
        "WHERE data ->> 'project_id' = $1::uuid::text AND type LIKE '%uploaded%'",
    ),
    "an inbox row has another tenant than its event": (
        "I9",
        "foreign tenant",
        "UPDATE indexing.inbox SET tenant_id = uuidv7() "
        "WHERE handler = 'indexing.on_document_deleted' AND $1::uuid IS NOT NULL",
    ),
    "a job has another tenant than its document": (
        "I9",
        "foreign tenant",
        "UPDATE indexing.jobs SET tenant_id = uuidv7() WHERE project_id = $1",
    ),
    "access to a project is filed under another tenant": (
        "I9",
        "foreign tenant",
        "INSERT INTO notifier.project_access (tenant_id, project_id, user_id, role, sequence) "
        "VALUES (uuidv7(), $1, uuidv7(), 'owner', 1)",
    ),
}


@pytest.mark.parametrize("case", PLANTED)
async def test_a_planted_violation_is_found(watched: Watched, case: str) -> None:
    invariant, what, statement = PLANTED[case]
    async with watched.broken(statement, watched.world.project):
        report = await watched.found()
    assert (invariant, what) in named(report), report
    assert all(violation.evidence for violation in report.violations if violation.invariant != "I7")


async def test_an_expected_dead_letter_is_none_too_many(watched: Watched) -> None:
    async with watched.broken(PLANTED["an event is quarantined"][2], watched.world.project):
        expected = await watched.checker.dead_letters()
        assert not await watched.checker.check(expected_dead_letters=expected)


async def redis_found(watched: Watched) -> set[str]:
    return {violation.what for violation in await watched.checker.check()}


async def test_what_is_pending_unread_or_without_a_group_is_found(watched: Watched) -> None:
    stream, redis = stream_of("indexing"), watched.redis
    entry = await redis.xadd(stream, {"event": b"not JSON"})
    await redis.xgroup_setid(stream, "notifier", "$")
    assert f"{stream}: projects has not read to the end" in await redis_found(watched)
    await redis.xreadgroup("projects", "somebody", {stream: ">"})
    assert f"{stream}: 1 pending in projects" in await redis_found(watched)
    await redis.xack(stream, "projects", entry)
    assert not await redis_found(watched)
    await redis.xgroup_destroy(stream, "projects")
    assert f"{stream} has lost the group projects" in await redis_found(watched)
    await redis.xgroup_create(stream, "projects", "$")
    assert not await redis_found(watched)


async def test_a_stream_that_redis_has_lost_is_found_until_it_is_there_again(watched: Watched) -> None:
    stream, redis = stream_of("projects"), watched.redis
    await redis.rename(stream, "elsewhere")
    assert f"{stream} is gone" in await redis_found(watched)
    await redis.rename("elsewhere", stream)
    assert not await redis_found(watched)


async def test_a_stream_entry_of_a_foreign_tenant_is_found(watched: Watched) -> None:
    event_id = await watched.postgres.fetchval("SELECT id FROM indexing.outbox LIMIT 1")
    stream, envelope = stream_of("indexing"), {"id": str(event_id), "tenantid": str(uuid.uuid4())}
    entry = await watched.redis.xadd(stream, {"event": orjson.dumps(envelope)})
    for group in SUBSCRIBERS["indexing"]:
        await watched.redis.xgroup_setid(stream, group, "$")
    assert await redis_found(watched) == {"stream entry of a foreign tenant"}
    await watched.redis.xdel(stream, entry)


Damage = Callable[[Path], Awaitable[None]]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("missing", {("I1", "document without its content")}),
        ("changed", {("I1", "document with other content")}),
        ("kept", {("I3", "content of a deleted document")}),
        ("foreign", {("I9", "content that belongs to no document")}),
        ("incoming", set()),
    ],
)
async def test_content_that_is_not_where_it_belongs_is_found(
    watched: Watched, damage: str, expected: set[tuple[str, str]]
) -> None:
    place = watched.blobs / watched.world.blob
    other = {
        "kept": place.parent.parent / str(watched.world.gone) / "1",
        "foreign": watched.blobs / str(uuid.uuid4()) / "1",
        "incoming": watched.blobs / "incoming" / watched.world.blob.replace("/", "."),
    }.get(damage)
    if other is not None:
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(world.CONTENT)
    if damage == "changed":
        place.write_bytes(b"Something else.")
    elif damage in ("missing", "incoming"):
        place.unlink()
    try:
        assert named(await watched.found()) == expected
    finally:
        place.write_bytes(world.CONTENT)
        if other is not None:
            other.unlink()


async def test_an_export_without_its_archive_is_found(watched: Watched) -> None:
    export, postgres = uuid.uuid4(), watched.postgres
    counts = "documents_total, documents_done, documents_skipped, bytes_total, bytes_done"
    await postgres.execute(
        f"INSERT INTO projects.exports (tenant_id, id, status, revision, attempts, {counts}) "  # noqa: S608  # constants
        "VALUES ($1, $2, 'ready', 1, 2, 0, 0, 0, 0, 0)",
        watched.world.tenant,
        export,
    )
    place = watched.blobs / str(watched.world.tenant) / str(watched.world.tenant) / str(export) / "2"
    try:
        assert named(await watched.found()) == {("I1", "export without its archive")}
        place.parent.mkdir(parents=True)
        place.write_bytes(b"PK")
        assert named(await watched.found()) == set()
    finally:
        place.unlink(missing_ok=True)
        await postgres.execute("DELETE FROM projects.exports WHERE id = $1", export)


async def test_an_unfinished_upload_without_its_bytes_or_its_end_is_found(watched: Watched) -> None:
    upload_id, project = uuid.uuid4(), watched.world.project
    tenant = await watched.postgres.fetchval("SELECT tenant_id FROM projects.projects WHERE id = $1", project)
    part = watched.blobs / "incoming" / f"{tenant}.{project}.{upload_id}.1.upload"
    part.parent.mkdir(parents=True, exist_ok=True)
    row = (
        "INSERT INTO projects.uploads (tenant_id, id, project_id, name, content_type, sent_metadata, received, state) "
        "VALUES ($1, $2, $3, 'a', 'text/plain', '', 3, '')"
    )
    end = "INSERT INTO projects.upload_expiries (tenant_id, upload_id, due_at) VALUES ($1, $2, now() + interval '1 d')"
    try:
        async with watched.broken(row, tenant, upload_id, project):
            await watched.postgres.execute(end, tenant, upload_id)
            assert named(await watched.found()) == {("I1", "unfinished upload without its bytes")}
            part.write_bytes(b"ab")
            assert named(await watched.found()) == {("I1", "unfinished upload without its bytes")}
            part.write_bytes(b"abc")
            assert named(await watched.found()) == set()
            await watched.postgres.execute("DELETE FROM projects.upload_expiries WHERE upload_id = $1", upload_id)
            assert named(await watched.found()) == {("I3", "upload without its document or without an end")}
    finally:
        part.unlink(missing_ok=True)


def test_a_transcript_with_a_gap_a_repetition_or_a_stranger_is_found() -> None:
    listener = World(told=["document.uploaded", "document.indexing", "document.indexed"]).listener()
    feed = {1: "document.uploaded", 2: "document.indexing", 3: "document.indexed"}
    assert transcripts.compare(listener, feed) == []
    assert transcripts.compare(replace(listener, frames=listener.frames[:1]), feed) == []
    first, second, third = listener.frames
    for frames, problem in (
        ([first, third], "heard 3 (document.indexed) where 2 was next"),
        ([first, first, second], "heard 1 (document.uploaded) where 2 was next"),
        ([second, first], "heard 2 (document.indexing) where 1 was next"),
        ([first, Frame("document.failed", {}, 2)], "heard document.failed as number 2, the feed has document.indexing"),
        ([first, Frame("reset", {}, None)], "heard reset"),
    ):
        assert transcripts.compare(replace(listener, frames=frames), feed) == [problem]


async def test_waiting_for_quiet_ends_at_the_deadline_and_says_what_moves(watched: Watched) -> None:
    async with watched.broken("UPDATE projects.outbox SET published_at = NULL"):
        report = await watched.checker.quiet(within=0.3)
    assert [violation.invariant for violation in report.violations] == ["G4"]
    assert "events not published" in str(report)
    silent = replace(watched.world.listener(), frames=[])
    report = await watched.checker.quiet([silent], within=0.3)
    assert "heard up to 0 of" in str(report)


async def test_a_checker_looks_at_everything_once_it_is_quiet(watched: Watched) -> None:
    async with checker(watched.stack) as check:
        report = await check.after(watched.world.ledger(), [watched.world.listener()], within=5)
    assert not report.violations, report
    assert "all invariants hold" in str(report)


def test_a_violation_shows_some_of_its_evidence() -> None:
    told = str(Violation("I4", "versions not contiguous", [f"row {number}" for number in range(7)]))
    assert told.splitlines()[0] == "I4 versions not contiguous"
    assert told.endswith("and 2 more")
