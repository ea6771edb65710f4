"""Transactional outbox, the publishing half: one relay per service moves committed rows to the service's stream.

Guarantees: every committed row reaches the stream at least once, in `position` order as far as rows are visible; what
Redis forgets (FLUSHALL, the unsynced tail of its AOF, an empty restart) is published again within `CHECK_SECONDS`, as
long as the row is kept (24 hours).
Does not guarantee: publishing once. A crash between XADD and the mark repeats a batch; consumers have an inbox.
Fails by: waiting. Redis or Postgres out of reach pauses the relay with backoff; rows wait in the outbox.

One at a time per service: a session-level advisory lock, held by the connection that the leader keeps. A relay that
loses the connection loses the lock with it.

How loss is noticed: the stream's *epoch* is a random value in a Redis key beside the stream. It is read in the same
round trip as each XADD batch and every few seconds. Another epoch, or none, means another life of Redis: all kept rows
are published again. The same epoch with a `last-generated-id` older than the newest row marked published means a lost
tail: the rows after it are published again.
"""

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    String,
    cast,
    column,
    delete,
    func,
    select,
    text,
    true,
    tuple_,
    update,
    values,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from shared.db import Model
from shared.inbox import InboxEntry
from shared.outbox import OutboxEvent
from shared.redis_clients import stream_of
from shared.resilience import Backoff
from shared.telemetry import get_logger
from shared.tenancy import Database

POLL_SECONDS = 0.5
CHECK_SECONDS = 2.0
PRUNE_SECONDS = 600.0
BATCH = 500
KEEP_PUBLISHED = timedelta(hours=24)
KEEP_INBOX = timedelta(hours=72)

_log = get_logger(__name__)


class RelayState(Model):
    """What the relay last knew of its stream. One row per stream; system access only."""

    __tablename__ = "relay_state"

    stream: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[str]


class Relay:
    """Runs until cancelled. `wake()` after a commit makes it look at once instead of at the next poll."""

    def __init__(self, service: str, database: Database, redis: Redis) -> None:
        self.stream = stream_of(service)
        self._epoch_key = f"{self.stream}:epoch"
        self._lock_name = f"relay:{service}"
        self._database = database
        self._redis = redis
        self._woken = asyncio.Event()
        self._next_check = 0.0
        self._next_prune = 0.0
        self.leading = False

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        backoff = Backoff(first=0.1, most=2.0)
        while True:
            try:
                await self._lead(backoff)
            except (SQLAlchemyError, RedisError, OSError) as error:
                self.leading = False
                delay = backoff.next()
                _log.warning("relay_paused", stream=self.stream, reason=str(error)[:200], retry_in=round(delay, 2))
                await asyncio.sleep(delay)

    async def _lead(self, backoff: Backoff) -> None:
        async with AsyncExitStack() as stack:
            lock = await stack.enter_async_context(self._database.engines.system.connect())
            await lock.execution_options(isolation_level="AUTOCOMMIT")
            stack.callback(self._step_down)
            await self._become_leader(lock)
            stack.push_async_callback(self._release, lock)
            self.leading = True
            self._next_check = 0.0
            while True:
                self._woken.clear()
                moved = await self._step(lock)
                backoff.reset()
                if moved < BATCH:
                    await self._wait()

    async def _step(self, lock: AsyncConnection) -> int:
        now = asyncio.get_running_loop().time()
        if now >= self._next_check:
            # The lock lives and dies with its connection: a dead one must end this leadership.
            await lock.execute(text("SELECT 1"))
            await self._republish_what_redis_lost()
            self._next_check = now + CHECK_SECONDS
        if now >= self._next_prune:
            await self._prune()
            self._next_prune = now + PRUNE_SECONDS
        return await self._publish_batch()

    async def _become_leader(self, lock: AsyncConnection) -> None:
        """Wait for the lock by asking for it: a blocking wait would outlive the statement timeout."""
        attempt = select(func.pg_try_advisory_lock(func.hashtext(self._lock_name)))
        while not await lock.scalar(attempt):  # noqa: ASYNC110  # the lock is Postgres's: nothing here can signal it
            await asyncio.sleep(POLL_SECONDS)

    async def _release(self, lock: AsyncConnection) -> None:
        if not lock.invalidated:
            await lock.execute(select(func.pg_advisory_unlock_all()))

    def _step_down(self) -> None:
        self.leading = False

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _publish_batch(self) -> int:
        async with self._database.system() as session:
            rows = (
                await session.scalars(
                    select(OutboxEvent)
                    .where(OutboxEvent.published_at.is_(None))
                    .order_by(OutboxEvent.position)
                    .limit(BATCH)
                    .with_for_update(skip_locked=True)
                )
            ).all()
            if not rows:
                return 0
            entry_ids = await self._add_to_stream(rows)
            marked = values(column("position", BigInteger), column("entry_id", String), name="marked").data(
                [(row.position, entry_id) for row, entry_id in zip(rows, entry_ids, strict=True)]
            )
            await session.execute(
                update(OutboxEvent)
                .where(OutboxEvent.position == marked.c.position)
                .values(published_at=datetime.now(UTC), entry_id=marked.c.entry_id)
                .execution_options(synchronize_session=False)
            )
        return len(rows)

    async def _add_to_stream(self, rows: Sequence[OutboxEvent]) -> list[str]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for row in rows:
                pipeline.xadd(self.stream, {"event": row.envelope().to_json()})
            pipeline.exists(self._epoch_key)
            *entry_ids, has_epoch = await pipeline.execute()
        if not has_epoch:
            self._next_check = 0.0
        return [str(entry_id, "ascii") for entry_id in entry_ids]

    async def _republish_what_redis_lost(self) -> None:
        epoch: Any = await self._redis.get(self._epoch_key)
        last_id = await self._last_generated_id()
        async with self._database.system() as session:
            known = await session.get(RelayState, self.stream)
            newest = await session.scalar(
                select(OutboxEvent.entry_id)
                .where(OutboxEvent.entry_id.is_not(None))
                .order_by(OutboxEvent.published_at.desc(), OutboxEvent.position.desc())
                .limit(1)
            )
            if epoch is not None and known is not None and known.epoch == epoch.decode():
                if newest is None or (last_id is not None and last_id >= _entry_order(newest)):
                    return
                lost = _after(last_id)
            else:
                fresh = epoch.decode() if epoch is not None else uuid.uuid4().hex
                await session.merge(RelayState(stream=self.stream, epoch=fresh))
                await self._redis.set(self._epoch_key, fresh)
                lost = true()
                if known is None and newest is None:
                    return
            result = await session.execute(
                update(OutboxEvent)
                .where(OutboxEvent.published_at.is_not(None), lost)
                .values(published_at=None, entry_id=None)
                .returning(OutboxEvent.position)
                .execution_options(synchronize_session=False)
            )
            count = len(result.all())
        _log.warning("redis_lost_events", stream=self.stream, publishing_again=count)

    async def _last_generated_id(self) -> tuple[int, int] | None:
        try:
            info = await self._redis.xinfo_stream(self.stream)
        except ResponseError as error:
            if "no such key" in str(error):
                return None
            raise
        last: bytes = info["last-generated-id"]
        return _entry_order(last.decode())

    async def _prune(self) -> None:
        now = datetime.now(UTC)
        async with self._database.system() as session:
            await session.execute(delete(OutboxEvent).where(OutboxEvent.published_at < now - KEEP_PUBLISHED))
            await session.execute(delete(InboxEntry).where(InboxEntry.processed_at < now - KEEP_INBOX))


def _after(last_id: tuple[int, int] | None) -> ColumnElement[bool]:
    """Rows whose stream entry is newer than `last_id`."""
    if last_id is None:
        return true()
    milliseconds = cast(func.split_part(OutboxEvent.entry_id, "-", 1), BigInteger)
    counter = cast(func.split_part(OutboxEvent.entry_id, "-", 2), BigInteger)
    return tuple_(milliseconds, counter) > tuple_(*last_id)


def _entry_order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, counter = entry_id.partition("-")
    return int(milliseconds), int(counter or 0)
