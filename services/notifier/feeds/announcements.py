"""Telling every replica that a feed has grown: the trimmed stream `notifier.feeds`, read without a group.

An announcement carries sequences and no data; a replica with subscribers of the feed reads the rows from Postgres.
Guarantees: nothing. The slow poll of `services.notifier.streams.hub` makes up for a lost announcement.
Fails by: dropping announcements while Redis does not respond, with one log line per failed batch.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.notifier.feeds.repository import FeedKey, NewEvent, StoredEvent
from services.notifier.feeds.service import Announcement
from services.notifier.runs.service import RunGrown
from shared.failpoints import failpoint
from shared.resilience import Backoff
from shared.telemetry import get_logger

STREAM = "notifier.feeds"
FIELD = b"announcement"
_MOST_KEPT = 1000
GONE = -1
"""The sequence of a feed that is no more."""

BEFORE_ANNOUNCE = failpoint("feed.before_announce", "appended and committed, other replicas not told")
AFTER_ANNOUNCE = failpoint("feed.after_announce", "appended, committed and announced")

_log = get_logger(__name__)

Tell = Callable[[FeedKey, StoredEvent], None]
Wake = Callable[[FeedKey, int], None]


@dataclass(frozen=True, slots=True)
class RunAnnouncement:
    """The feed of a run has grown up to this sequence, or is `GONE`."""

    tenant_id: uuid.UUID
    project_id: uuid.UUID
    run_id: uuid.UUID
    sequence: int

    def feeds(self) -> tuple[tuple[FeedKey, int], ...]:
        return ((FeedKey(self.tenant_id, self.run_id, self.project_id), self.sequence),)


class Announcer:
    """Notifies this replica at once and the others through Redis, with the newest sequence per project only."""

    def __init__(self, redis: Redis, tell: Tell, wake: Wake) -> None:
        self._redis = redis
        self._tell = tell
        self._wake = wake
        self._waiting: dict[FeedKey, Announcement | RunAnnouncement] = {}
        self._some = asyncio.Event()

    def announce(self, announcement: Announcement, event: NewEvent) -> None:
        for key, sequence in announcement.feeds():
            self._tell(key, event.stored(sequence))
        self._waiting[FeedKey(announcement.tenant_id, announcement.project_id)] = announcement
        self._some.set()

    def announce_run(self, grown: RunGrown) -> None:
        key = grown.key
        assert key.project_of_run is not None  # noqa: S101  # the key is that of a run
        for event in grown.events:
            self._tell(key, event)
        if not grown.events:
            self._wake(key, GONE)
        last = grown.events[-1].sequence if grown.events else GONE
        self._waiting[key] = RunAnnouncement(key.tenant_id, key.project_of_run, key.feed_id, last)
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

    async def _publish(self, batch: list[Announcement | RunAnnouncement]) -> None:
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
            announcement = _read(orjson.loads(fields[FIELD]))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            _log.warning("announcement_malformed", reason=repr(error)[:200])
            return
        for key, sequence in announcement.feeds():
            wake(key, sequence)

    return on_entry


def _read(heard: Mapping[str, Any]) -> Announcement | RunAnnouncement:
    tenant_id, project_id = uuid.UUID(heard["tenant_id"]), uuid.UUID(heard["project_id"])
    if "run_id" in heard:
        return RunAnnouncement(tenant_id, project_id, uuid.UUID(heard["run_id"]), int(heard["sequence"]))
    return Announcement(tenant_id, project_id, int(heard["sequence"]), int(heard["tenant_sequence"]))
