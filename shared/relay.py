"""Transactional outbox, the publishing half: one relay per service moves committed rows to the service's stream.

Guarantees: every committed row reaches the stream at least once, in `position` order as far as rows are visible; what
Redis forgets (FLUSHALL, the unsynced tail of its AOF, an empty restart) is published again within `CHECK_SECONDS`, as
long as the row is kept (24 hours).
Does not guarantee: publishing once. A crash between XADD and the mark repeats a batch; consumers have an inbox.
Fails by: waiting. Redis or Postgres out of reach pauses the relay with backoff; rows wait in the outbox.

One relay per service leads (`shared.leadership`). A commit in a process that does not lead wakes the leader through
Redis: by an entry in the stream `<stream>:wake`, which keeps one. A lost wake costs one poll.

How loss is noticed: the stream's *epoch* is a random value in a Redis key beside the stream. Every few seconds, and
before anything is published after an error, it is compared with the one in Postgres. Another epoch, or none, means
another life of Redis: all kept rows are published again. The same epoch with a `last-generated-id` older than the
newest row marked published means a lost tail: the rows after it are published again. Since a connection may be made
again without an error being seen, each batch asks in the same round trip, first, for the last id: nobody else writes
to the stream, so it is the last one this relay knows, or the rows after it are lost.
"""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from sqlalchemy import BigInteger, ColumnElement, cast, func, select, text, true, tuple_, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from shared.background import run_in_background
from shared.db import Model
from shared.events.subscriptions import SUBSCRIBERS
from shared.failpoints import failpoint
from shared.leadership import Leadership
from shared.metrics import Metrics
from shared.outbox import OutboxEvent, entry_of
from shared.redis_clients import stream_of
from shared.resilience import Backoff
from shared.stream_tail import follow
from shared.streams import EntryOrder, entry_order, make_groups
from shared.telemetry import get_logger
from shared.tenancy import Database

POLL_SECONDS = 0.5
WAKE_BLOCK_MS = 1000  # less than the timeout of a command client
CHECK_SECONDS = 2.0
BATCH = 500

BEFORE_XADD = failpoint("relay.before_xadd", "rows taken, nothing published")
AFTER_XADD = failpoint("relay.after_xadd", "published, not marked")
AFTER_MARK = failpoint("relay.after_mark", "published and marked")
AFTER_EPOCH = failpoint("relay.after_epoch", "Redis has a new epoch that Postgres has not heard of")

_TAKE = text(
    "SELECT id, tenant_id, position, type, subject, sequence, time, traceparent, correlation_id, causation_id, "
    "CAST(data AS text) AS data "
    "FROM outbox WHERE published_at IS NULL ORDER BY position LIMIT :most FOR UPDATE SKIP LOCKED"
)
_MARK = text(
    "UPDATE outbox SET published_at = now(), entry_id = marked.entry_id "
    "FROM unnest(CAST(:positions AS bigint[]), CAST(:entry_ids AS text[])) AS marked (position, entry_id) "
    "WHERE outbox.position = marked.position"
)

_NOTHING: EntryOrder = (0, 0)
_log = get_logger(__name__)


class RelayState(Model):
    """What the relay last knew of its stream. One row per stream; system access only."""

    __tablename__ = "relay_state"

    stream: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[str]


class Relay:
    """Runs until cancelled. `wake()` after a commit makes it look at once instead of at the next poll."""

    def __init__(self, service: str, database: Database, redis: Redis, metrics: Metrics | None = None) -> None:
        self._metrics = metrics or Metrics.unread()
        self.stream = stream_of(service)
        self._epoch_key = f"{self.stream}:epoch"
        self._wake_stream = f"{self.stream}:wake"
        self._leadership = Leadership(f"relay:{service}", database.engines.system)
        self._database = database
        self._redis = redis
        self._woken = asyncio.Event()
        self._groups = SUBSCRIBERS.get(service, ())
        self._next_check = 0.0
        self._last = _NOTHING

    @property
    def leading(self) -> bool:
        return self._leadership.leading

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        backoff = Backoff(first=0.1, most=2.0)
        while True:
            try:
                await self._lead(backoff)
            except (SQLAlchemyError, RedisError, OSError) as error:
                delay = backoff.next()
                if backoff.worth_telling:
                    _log.warning("relay_paused", stream=self.stream, reason=str(error)[:200], retry_in=round(delay, 2))
                await asyncio.sleep(delay)

    async def _lead(self, backoff: Backoff) -> None:
        async with (
            self._leadership.held(meanwhile=self._follow_the_leader),
            run_in_background(self._hear, name="relay-wakes"),
        ):
            self._next_check = 0.0
            while True:
                self._woken.clear()
                moved = await self._step()
                backoff.reset()
                if moved < BATCH:
                    await self._wait(POLL_SECONDS)

    async def _step(self) -> int:
        now = asyncio.get_running_loop().time()
        if now >= self._next_check:
            await self._leadership.confirm()
            await self._republish_what_redis_lost()
            self._next_check = now + CHECK_SECONDS
        return await self._publish_batch()

    async def _follow_the_leader(self, seconds: float) -> None:
        """For `seconds`, leave what is committed here to the leader, and wake it."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while (left := until - clock()) > 0:
            if await self._wait(left):
                self._woken.clear()
                await self._wake_the_leader()

    async def _wake_the_leader(self) -> None:
        await self._redis.xadd(self._wake_stream, {"wake": ""}, maxlen=1, approximate=False)

    async def _hear(self) -> None:
        """Receive the wakes of processes that do not lead."""
        await follow(
            self._redis,
            self._wake_stream,
            on_entry=lambda _entry_id, _fields: self.wake(),
            on_gap=self.wake,
            block_ms=WAKE_BLOCK_MS,
        )

    async def _wait(self, seconds: float) -> bool:
        """Whether it was woken within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                return await self._woken.wait()
        except TimeoutError:
            return False

    async def _publish_batch(self) -> int:
        async with self._database.system() as session:
            rows = (await session.execute(_TAKE, {"most": BATCH})).all()
            if not rows:
                return 0
            before, entry_ids = await self._add_to_stream([entry_of(row) for row in rows])
            if before < self._last:
                await self._take_back(session, _after(before))
            await session.execute(_MARK, {"positions": [row.position for row in rows], "entry_ids": entry_ids})
        self._last = entry_order(entry_ids[-1])
        self._metrics.published(len(rows))
        await AFTER_MARK.reach()
        return len(rows)

    async def _add_to_stream(self, entries: Sequence[bytes]) -> tuple[EntryOrder, list[str]]:
        """Returns the last id of the stream before, and the ids of `entries`."""
        await BEFORE_XADD.reach()
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xinfo_stream(self.stream)
            for entry in entries:
                pipeline.xadd(self.stream, {"event": entry})
            pipeline.exists(self._epoch_key)
            info, *entry_ids, has_epoch = await pipeline.execute(raise_on_error=False)
        await AFTER_XADD.reach()
        for answer in (*entry_ids, has_epoch):
            if isinstance(answer, Exception):
                raise answer
        if not has_epoch:
            self._next_check = 0.0
        return _last_id(info), [str(entry_id, "ascii") for entry_id in entry_ids]

    async def _republish_what_redis_lost(self) -> None:
        epoch: Any = await self._redis.get(self._epoch_key)
        try:
            self._last = _last_id(await self._redis.xinfo_stream(self.stream))
        except ResponseError as error:
            self._last = _last_id(error)
        async with self._database.system() as session:
            known = await session.get(RelayState, self.stream)
            newest = await session.scalar(
                select(OutboxEvent.entry_id)
                .where(OutboxEvent.published_at.is_not(None))
                .order_by(OutboxEvent.published_at.desc(), OutboxEvent.position.desc())
                .limit(1)
            )
            same_life = epoch is not None and known is not None and known.epoch == epoch.decode()
            if same_life and (newest is None or self._last >= entry_order(newest)):
                return
            await make_groups(self._redis, self.stream, self._groups)
            if same_life:
                await self._take_back(session, _after(self._last))
                return
            fresh = epoch.decode() if epoch is not None else uuid.uuid4().hex
            await session.merge(RelayState(stream=self.stream, epoch=fresh))
            await self._redis.set(self._epoch_key, fresh)
            await AFTER_EPOCH.reach()
            if newest is not None:
                await self._take_back(session, true())

    async def _take_back(self, session: AsyncSession, lost: ColumnElement[bool]) -> None:
        """Rows that Redis no longer has wait to be published again. They keep their old entry id, by which the
        backlog tells them from new ones."""
        taken_back = await session.scalars(
            update(OutboxEvent)
            .where(OutboxEvent.published_at.is_not(None), lost)
            .values(published_at=None)
            .returning(OutboxEvent.position)
            .execution_options(synchronize_session=False)
        )
        _log.warning("redis_lost_events", stream=self.stream, publishing_again=len(taken_back.all()))


def _last_id(info: Any) -> EntryOrder:
    """The last id a stream has given, from XINFO STREAM or its error; `_NOTHING` where there is no stream."""
    if isinstance(info, Exception):
        if "no such key" in str(info):
            return _NOTHING
        raise info
    return entry_order(info["last-generated-id"])


def _after(last: EntryOrder) -> ColumnElement[bool]:
    """Rows whose stream entry is newer than `last`."""
    milliseconds = cast(func.split_part(OutboxEvent.entry_id, "-", 1), BigInteger)
    number = cast(func.split_part(OutboxEvent.entry_id, "-", 2), BigInteger)
    return tuple_(milliseconds, number) > tuple_(*last)
