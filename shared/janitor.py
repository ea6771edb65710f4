"""Removes, once in a while, what the event backbone no longer needs, in the process whose relay leads.

- entries of the service's stream that every group has acknowledged (`shared.streams.trim`), never by a length;
- outbox rows published more than 24 hours ago, so what Redis loses can be published again until then;
- inbox rows older than 72 hours: longer than any event can arrive again;
- consumers of ended processes, once they have nothing pending and have been idle for a day.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError

from shared.events.subscriptions import SUBSCRIBERS
from shared.inbox import InboxEntry
from shared.outbox import OutboxEvent
from shared.redis_clients import stream_of
from shared.streams import trim
from shared.telemetry import get_logger
from shared.tenancy import Database

SWEEP_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 1.0
KEEP_PUBLISHED: Final = timedelta(hours=24)
KEEP_INBOX: Final = timedelta(hours=72)
KEEP_CONSUMERS: Final = timedelta(hours=24)

_log = get_logger(__name__)


class Janitor:
    """Sweeps for one service while `leads()` says so."""

    def __init__(self, service: str, database: Database, redis: Redis, *, leads: Callable[[], bool]) -> None:
        self._service = service
        self._database = database
        self._redis = redis
        self._leads = leads

    async def run(self) -> None:
        while True:
            if not self._leads():
                await asyncio.sleep(LOOK_SECONDS)
                continue
            try:
                await self.sweep()
            except (SQLAlchemyError, RedisError, OSError) as error:
                _log.warning("sweep_postponed", reason=str(error)[:200])
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self) -> None:
        await self._prune()
        stream = stream_of(self._service)
        if removed := await trim(self._redis, stream, SUBSCRIBERS.get(self._service, ())):
            _log.info("stream_trimmed", stream=stream, entries=removed)
        for producer, subscribers in SUBSCRIBERS.items():
            if self._service in subscribers:
                await self._forget_consumers(stream_of(producer))

    async def _prune(self) -> None:
        now = datetime.now(UTC)
        async with self._database.system() as session:
            await session.execute(delete(OutboxEvent).where(OutboxEvent.published_at < now - KEEP_PUBLISHED))
            await session.execute(delete(InboxEntry).where(InboxEntry.processed_at < now - KEEP_INBOX))

    async def _forget_consumers(self, stream: str) -> None:
        try:
            consumers: Any = await self._redis.xinfo_consumers(stream, self._service)
        except ResponseError:
            # No stream or no group: no consumers.
            return
        for consumer in consumers:
            if not consumer["pending"] and consumer["idle"] > KEEP_CONSUMERS.total_seconds() * 1000:
                await self._redis.xgroup_delconsumer(stream, self._service, consumer["name"])
