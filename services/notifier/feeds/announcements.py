"""Telling every replica that a feed has grown: the trimmed stream `notifier.feeds`, read without a group.

An announcement carries sequences and no data; a replica with subscribers of the feed reads the rows from Postgres.
Guarantees: nothing. The slow poll of `services.notifier.streams.hub` makes up for a lost announcement.
Fails by: dropping announcements while Redis does not respond, with one log line per failed batch.
"""

import asyncio
import uuid
from collections.abc import Callable

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.notifier.feeds.repository import FeedKey, NewEvent, StoredEvent
from services.notifier.feeds.service import Announcement
from shared.failpoints import failpoint
from shared.resilience import Backoff
from shared.telemetry import get_logger

STREAM = "notifier.feeds"
FIELD = b"announcement"
_MOST_KEPT = 1000

BEFORE_ANNOUNCE = failpoint("feed.before_announce", "appended and committed, other replicas not told")
AFTER_ANNOUNCE = failpoint("feed.after_announce", "appended, committed and announced")

_log = get_logger(__name__)

Tell = Callable[[FeedKey, StoredEvent], None]
Wake = Callable[[FeedKey, int], None]


class Announcer:
    """Notifies this replica at once and the others through Redis, with the newest sequence per project only."""

    def __init__(self, redis: Redis, tell: Tell) -> None:
        self._redis = redis
        self._tell = tell
        self._waiting: dict[FeedKey, Announcement] = {}
        self._some = asyncio.Event()

    def announce(self, announcement: Announcement, event: NewEvent) -> None:
        for key, sequence in announcement.feeds():
            self._tell(key, event.stored(sequence))
        self._waiting[FeedKey(announcement.tenant_id, announcement.project_id)] = announcement
        self._some.set()

    @property
    def waiting(self) -> int:
        """Projects whose announcement is not yet published or dropped."""
        return len(self._waiting)

    async def run(self) -> None:
        """Publish until cancelled."""
        backoff = Backoff(first=0.1, most=2.0)
        while True:
            await self._some.wait()
            self._some.clear()
            batch, self._waiting = self._waiting, {}
            try:
                await self._publish(list(batch.values()))
                backoff.reset()
            except (RedisError, OSError) as error:
                _log.warning("announcements_lost", feeds=len(batch), reason=str(error)[:200])
                await asyncio.sleep(backoff.next())

    async def _publish(self, batch: list[Announcement]) -> None:
        await BEFORE_ANNOUNCE.reach()
        async with self._redis.pipeline(transaction=False) as pipeline:
            for announcement in batch:
                pipeline.xadd(STREAM, {FIELD: orjson.dumps(announcement)}, maxlen=_MOST_KEPT, approximate=True)
            await pipeline.execute()
        await AFTER_ANNOUNCE.reach()


def hear(wake: Wake) -> Callable[[bytes, dict[bytes, bytes]], None]:
    """A reader of the stream for `shared.stream_tail.follow`."""

    def on_entry(_entry_id: bytes, fields: dict[bytes, bytes]) -> None:
        try:
            heard = orjson.loads(fields[FIELD])
            announcement = Announcement(
                uuid.UUID(heard["tenant_id"]),
                uuid.UUID(heard["project_id"]),
                int(heard["sequence"]),
                int(heard["tenant_sequence"]),
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            _log.warning("announcement_malformed", reason=repr(error)[:200])
            return
        for key, sequence in announcement.feeds():
            wake(key, sequence)

    return on_entry
