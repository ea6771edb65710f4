"""What must be true after every fault, read from Postgres as its superuser, from Redis, and from the blob store.

    async with checker(system.stack) as check:
        report = await check.after(ledger, listeners)
        assert not report.violations, report

`after` first waits until nothing moves any more, 60 seconds at most (G4), then looks at everything:

I1  every command that was answered has its rows and events, a deletion its absence; a document has its bytes
I2  each event in an outbox has one inbox row per subscribed handler, and no inbox row comes from nowhere
I3  effects are as many as events: one feed row per event, one job per version, a document as its job ended
I4  the versions of an aggregate are 1, 2, 3, ... without gap or repetition
I6  no job runs without a live lease
I7  nothing is pending in any group, and dead letters hold only what is expected
I8  what a listener heard is the feed: in order, without gap, each event once
I9  no row, stream entry or blob has another tenant than what it is about

Not here: I5, as far as search shows it (`tests.faults.searching`), and I10 (`tests.faults.resources`).
Does not: repair anything, or forgive what was there before. Everything in the stores is looked at, by whomever it was
written; `expected_dead_letters` names the rows that are there on purpose.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from infra.local.stack import Stack
from infra.postgres.roles import DATABASE
from shared.events.subscriptions import SUBSCRIBERS
from shared.redis_clients import stream_of
from tests.faults import acknowledged, blobs, transcripts, views
from tests.faults.ledger import Ledger
from tests.faults.listeners import Listener
from tests.faults.report import Report, Violation
from tests.faults.subscriptions import shown_types, subscriptions

QUIET_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.2
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Stores:
    """Where a system keeps everything: addresses of accounts with all rights, and the folder of all content."""

    postgres: str
    redis: str
    blobs: Path

    @classmethod
    def of(cls, stack: Stack) -> Self:
        return cls(stack.postgres.admin_dsn(DATABASE), stack.redis.url(), stack.home.blobs)


class Checker:
    """Bound to the stores of one system for as long as its servers live. Made by `checker`."""

    def __init__(self, stores: Stores, postgres: asyncpg.Connection, redis: Redis) -> None:
        self._stores = stores
        self._postgres = postgres
        self._redis = redis
        handlers = subscriptions()
        self._subscribed = tuple([item[place] for item in handlers] for place in range(3))

    async def after(
        self,
        ledger: Ledger | None = None,
        listeners: Sequence[Listener] = (),
        *,
        expected_dead_letters: Collection[object] = (),
        within: float = QUIET_SECONDS,
    ) -> Report:
        """Wait until it is quiet, then check everything.

        Args:
            expected_dead_letters: ids of the rows that may be there.
        """
        report = await self.quiet(listeners, within=within)
        report.add(await self.check(expected_dead_letters=expected_dead_letters))
        if ledger is not None:
            report.add(await acknowledged.check(self._postgres, ledger))
        report.add(await transcripts.check(self._postgres, listeners))
        report.add(await blobs.check(self._postgres, self._stores.blobs, ledger))
        return report

    async def quiet(self, listeners: Sequence[Listener] = (), *, within: float = QUIET_SECONDS) -> Report:
        """Wait until nothing moves; what still does at the deadline is a violation of G4."""
        began = time.monotonic()
        while True:
            moving = await self.moving(listeners)
            waited = time.monotonic() - began
            if not moving or waited > within:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        violations = [Violation("G4", f"not quiet after {within:.0f} s", moving)] if moving else []
        return Report(seconds_to_quiet=waited, violations=violations)

    async def moving(self, listeners: Sequence[Listener] = ()) -> list[str]:
        """What has not come to an end yet."""
        found = [f"{row['count']} {row['what']}" for row in await self._postgres.fetch(views.MOVING) if row["count"]]
        missing = await self._postgres.fetch(views.NOT_APPLIED, *self._subscribed)
        found += [f"{len(missing)} events not applied, e.g. {_told(missing[0])}"] if missing else []
        found += [violation.what for violation in await self._pending()]
        found += await transcripts.behind(self._postgres, listeners)
        return found

    async def check(self, *, expected_dead_letters: Collection[object] = ()) -> list[Violation]:
        """I2, I3, I4, I6, I7 and I9, as things are now."""
        found: list[Violation] = []
        for invariant, what, rows in (
            ("I2", "event not applied by its handler", await self._rows(views.NOT_APPLIED, *self._subscribed)),
            ("I2", "applied from nowhere", await self._rows(views.APPLIED_FROM_NOWHERE, *self._subscribed)),
            ("I3", "event in no feed", await self._rows(views.NOT_TOLD, shown_types())),
            ("I3", "feed row twice or from nowhere", await self._rows(views.TOLD_TWICE_OR_FROM_NOWHERE, shown_types())),
            ("I3", "feed numbered with a gap", await self._rows(views.FEEDS_WITH_GAPS)),
            ("I3", "document and job disagree", await self._rows(views.JOBS_AND_DOCUMENTS)),
            ("I3", "left of a deleted document", await self._rows(views.LEFT_OF_THE_DELETED)),
            ("I3", "tombstone without one receipt", await self._rows(views.TOMBSTONES_WITHOUT_RECEIPT)),
            ("I3", "receipt before all is gone", await self._rows(views.RECEIPTS_TOO_EARLY)),
            ("I3", "documents of a project miscounted", await self._rows(views.MISCOUNTED)),
            ("I4", "versions not contiguous", await self._rows(views.VERSIONS_WITH_GAPS)),
            ("I6", "job runs without a lease", await self._rows(views.RUNNING_WITHOUT_A_LEASE)),
            ("I9", "foreign tenant", await self._rows(views.FOREIGN_TENANTS)),
        ):
            if rows:
                found.append(Violation(invariant, what, rows))
        return [
            *found,
            *await self._pending(),
            *await self._dead_letters(expected_dead_letters),
            *await self._streams(),
        ]

    async def dead_letters(self) -> list[object]:
        """Ids of the rows that are there now."""
        return [row["id"] for row in await self._postgres.fetch(views.QUARANTINED)]

    async def planted_dead_letters(self) -> list[object]:
        """Ids of the rows that a scenario put there on purpose."""
        return [row["id"] for row in await self._postgres.fetch(views.PLANTED)]

    async def heads(self, feeds: Collection[object]) -> dict[uuid.UUID, int]:
        """The newest number of each feed that has one."""
        rows = await self._postgres.fetch(views.HEADS, list(feeds))
        return {row["feed_id"]: row["last_sequence"] for row in rows}

    async def _rows(self, query: str, *arguments: Any) -> list[str]:
        return [_told(row) for row in await self._postgres.fetch(query, *arguments)]

    async def _dead_letters(self, expected: Collection[object]) -> list[Violation]:
        rows = [row for row in await self._postgres.fetch(views.QUARANTINED) if row["id"] not in expected]
        return [Violation("I7", "unexpected dead letter", [_told(row) for row in rows])] if rows else []

    async def _pending(self) -> list[Violation]:
        found = []
        for producer, consumers in SUBSCRIBERS.items():
            stream = stream_of(producer)
            try:
                last = (await self._redis.xinfo_stream(stream))["last-generated-id"]
                groups = {group["name"].decode(): group for group in await self._redis.xinfo_groups(stream)}
            except ResponseError as error:
                if "no such key" not in str(error):
                    raise
                # The relay publishes again what Redis has lost, but may not have noticed yet.
                if await self._postgres.fetchval("SELECT EXISTS (SELECT FROM events WHERE producer = $1)", producer):
                    found.append(Violation("I7", f"{stream} is gone", []))
                continue
            for consumer in consumers:
                group = groups.get(consumer)
                if group is None:
                    found.append(Violation("I7", f"{stream} has lost the group {consumer}", []))
                elif group["pending"]:
                    found.append(Violation("I7", f"{stream}: {group['pending']} pending in {consumer}", []))
                elif group["last-delivered-id"] != last:
                    found.append(Violation("I7", f"{stream}: {consumer} has not read to the end", []))
        return found

    async def _streams(self) -> list[Violation]:
        """Every entry names an event of an outbox, and its tenant."""
        wrong: list[str] = []
        for producer in SUBSCRIBERS:
            async for entries in self._pages(stream_of(producer)):
                envelopes = [transcripts.decoded(fields.get(b"event", b"")) for _, fields in entries]
                ids = [envelope["id"] for envelope in envelopes if envelope is not None]
                owners = {
                    str(row["id"]): str(row["tenant_id"])
                    for row in await self._postgres.fetch(views.TENANTS_OF_EVENTS, ids)
                }
                wrong += [
                    f"{stream_of(producer)}: {envelope['id']} of {envelope['tenantid']}, owner {owners[envelope['id']]}"
                    for envelope in envelopes
                    if envelope is not None and owners.get(envelope["id"], envelope["tenantid"]) != envelope["tenantid"]
                ]
        return [Violation("I9", "stream entry of a foreign tenant", wrong)] if wrong else []

    async def _pages(self, stream: str) -> AsyncIterator[list[tuple[bytes, dict[bytes, bytes]]]]:
        first = b"-"
        while True:
            page: Any = await self._redis.xrange(stream, min=first, max=b"+", count=_PAGE)
            if not page:
                return
            yield page
            first = b"(" + page[-1][0]


@asynccontextmanager
async def checker(system: Stack | Stores) -> AsyncIterator[Checker]:
    """A checker with its own connections; make another one after a server was restarted."""
    stores = system if isinstance(system, Stores) else Stores.of(system)
    postgres = await asyncpg.connect(stores.postgres)
    redis = Redis.from_url(stores.redis)
    try:
        await postgres.execute(views.VIEWS)
        yield Checker(stores, postgres, redis)
    finally:
        await redis.aclose()
        await postgres.close()


def _told(row: asyncpg.Record) -> str:
    return ", ".join(f"{name}={value}" for name, value in row.items() if value is not None)
