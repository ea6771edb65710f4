"""Live events of the feeds that have subscribers in this process.

A channel is one feed with at least one subscriber in this process. Its `position` is the sequence up to which its
subscribers have been offered everything. When a feed is announced to have grown, the rows after the position are read
from Postgres in one short transaction, encoded once and offered to all: announcements may repeat, overtake or be wrong.

Guarantees: subscribers are offered every event after the position at which they joined, in order, without a gap.
Covers lost announcements by reading, every `poll_seconds`, how far the feeds of a tenant have come: one transaction per
tenant, paced so that many tenants make the round longer instead of the load higher. Tenants take turns at reading, and
the polls take turns as one more tenant: many busy feeds of one tenant delay only that tenant. A frame for thousands of
subscribers is offered to some hundreds at a time, with other work in between; each still gets its frames in order.
Fails by: waiting. While Postgres does not respond, channels keep their position and try again with backoff.
"""

import asyncio
import sys
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from services.notifier.feeds.announcements import GONE
from services.notifier.feeds.repository import FeedKey, StoredEvent
from services.notifier.streams import frames, reading
from services.notifier.streams.connection import Connection
from services.notifier.streams.frames import Frame
from services.notifier.streams.progress_throttle import Progress
from shared.fair_semaphore import FairSemaphore
from shared.resilience import Backoff
from shared.telemetry import get_logger, span
from shared.tenancy import Database

PAGE = 500
NO_END = 2**63 - 1
_READERS = 4
_READERS_EACH = 2
_POLL = "poll"
_FRAMES_PER_TURN = 64
# How many streams are offered a frame before the event loop gets a turn.
_OFFERED_AT_ONCE: Final = 500
_POLL_GAP_SECONDS = 0.01
_log = get_logger(__name__)


class Channel:
    """One feed as offered to its subscribers here; the last frames may still be on their way to many of them."""

    __slots__ = ("_frames", "_offering", "grown", "key", "position", "progress", "reading", "room", "subscribers")

    def __init__(self, key: FeedKey, position: int) -> None:
        self.key = key
        self.position = position
        self.subscribers: set[Connection] = set()
        self.grown = False
        self.reading: asyncio.Task[None] | None = None
        self.progress = Progress(self.show)
        self._frames: deque[Frame] = deque()
        self._offering: asyncio.Task[None] | None = None
        # Set unless so many frames are on their way that further events should wait as rows.
        self.room = asyncio.Event()
        self.room.set()

    def show(self, frame: Frame) -> None:
        """Offer a frame to all subscribers, after the frames before it. Progress is thinned while many are on their
        way."""
        if self._offering is None and len(self.subscribers) <= _OFFERED_AT_ONCE:
            for connection in self.subscribers:
                connection.offer(frame)
            return
        if frame.sequence is None and len(self._frames) >= _FRAMES_PER_TURN // 2:
            return
        self._frames.append(frame)
        if len(self._frames) >= _FRAMES_PER_TURN:
            self.room.clear()
        if self._offering is None:
            self._offering = asyncio.create_task(self._offer(), name="offering frames")

    async def _offer(self) -> None:
        """A subscriber that joins meanwhile is offered some frames that it already has, and skips those."""
        offered = 0
        try:
            while self._frames:
                frame = self._frames.popleft()
                self.room.set()
                for connection in list(self.subscribers):
                    connection.offer(frame)
                    offered += 1
                    if offered % _OFFERED_AT_ONCE == 0:
                        await asyncio.sleep(0)
        finally:
            self._offering = None

    def tell(self, event: StoredEvent) -> None:
        """Show a durable event, and make it the channel's position."""
        if document_id := event.data.get("document_id"):
            self.progress.forget(uuid.UUID(document_id))
        with span("sse frame", parent=event.traceparent, attributes={"quarry.event.type": event.type}):
            self.show(frames.durable(self.key, event))
        self.position = event.sequence

    def close(self) -> None:
        self.progress.close()
        for task in (self.reading, self._offering):
            if task is not None:
                task.cancel()


class Hub:
    """All channels of this process."""

    def __init__(self, database: Database, *, poll_seconds: float) -> None:
        self._database = database
        self._poll_seconds = poll_seconds
        self._channels: dict[FeedKey, Channel] = {}
        # Unlimited waiting: each channel waits once.
        self._readers = FairSemaphore(_READERS, each=_READERS_EACH, waiting=sys.maxsize, waiting_in_all=sys.maxsize)

    async def join(self, connection: Connection, catch_up: Callable[[int], Awaitable[None]]) -> None:
        """Offer live events to `connection`, from its cursor on.

        Args:
            catch_up: brings the connection's cursor up to a sequence; used when the channel is ahead of it.
        """
        channel = self._channels.get(connection.key)
        if channel is None:
            channel = self._channels[connection.key] = Channel(connection.key, connection.cursor)
            # What was announced between reading the cursor and this moment found no channel.
            self._read_on(channel)
        channel.subscribers.add(connection)
        while connection.cursor < channel.position and connection.ending is None:
            await catch_up(channel.position)

    def leave(self, connection: Connection) -> None:
        channel = self._channels.get(connection.key)
        if channel is None or connection not in channel.subscribers:
            return
        channel.subscribers.discard(connection)
        if not channel.subscribers:
            del self._channels[connection.key]
            channel.close()

    def close(self) -> None:
        """Stop reading: no transaction outlives the database."""
        for channel in self._channels.values():
            channel.close()

    def channel(self, key: FeedKey) -> Channel | None:
        return self._channels.get(key)

    def tell(self, key: FeedKey, event: StoredEvent) -> None:
        """A feed has got this event. Shown at once when it is the next one and no read of the rows before it runs."""
        channel = self._channels.get(key)
        if channel is None:
            return
        if channel.reading is None and channel.room.is_set() and event.sequence == channel.position + 1:
            channel.tell(event)
        else:
            self.wake(key, event.sequence)

    def wake(self, key: FeedKey, sequence: int) -> None:
        """A feed is announced to have grown up to `sequence`, or to be gone."""
        channel = self._channels.get(key)
        if channel is not None and sequence == GONE:
            for connection in channel.subscribers:
                connection.end("gone for good", at_once=True)
        elif channel is not None and sequence > channel.position:
            self._read_on(channel)

    def _read_on(self, channel: Channel) -> None:
        channel.grown = True
        if channel.reading is None:
            channel.reading = asyncio.create_task(self._read(channel))

    async def _read(self, channel: Channel) -> None:
        """Offer everything after the position, and repeat while the channel is announced to have grown meanwhile."""
        backoff = Backoff(first=0.05, most=2.0)
        try:
            while channel.grown:
                channel.grown = False
                try:
                    events = await self._page(channel)
                except (SQLAlchemyError, OSError) as error:
                    channel.grown = True
                    _log.warning("feed_unreadable", tenant_id=str(channel.key.tenant_id), reason=str(error)[:200])
                    await asyncio.sleep(backoff.next())
                    continue
                backoff.reset()
                channel.grown = channel.grown or len(events) == PAGE
                await _tell(channel, events)
        finally:
            channel.reading = None

    async def _page(self, channel: Channel) -> list[StoredEvent]:
        tenant_id = channel.key.tenant_id
        async with self._readers.turn(tenant_id), self._database.tenant(tenant_id) as session:
            return list(
                await reading.events_between(session, channel.key, after=channel.position, until=NO_END, limit=PAGE)
            )

    async def poll(self) -> None:
        """Look for growth that was not announced, until cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            for tenant_id in {key.tenant_id for key in self._channels}:
                try:
                    await self._look(tenant_id)
                except (SQLAlchemyError, OSError) as error:
                    _log.warning("feeds_unreadable", tenant_id=str(tenant_id), reason=str(error)[:200])
                await asyncio.sleep(_POLL_GAP_SECONDS)

    async def _look(self, tenant_id: uuid.UUID) -> None:
        keys = [key for key in self._channels if key.tenant_id == tenant_id]
        async with self._readers.turn(_POLL), self._database.tenant(tenant_id) as session:
            heads = await reading.heads(session, keys)
        for key, head in heads.items():
            self.wake(key, GONE if key.is_run and head.first_kept > 1 else head.last)


async def _tell(channel: Channel, events: list[StoredEvent]) -> None:
    for number, event in enumerate(events, start=1):
        if event.sequence != channel.position + 1:
            # Trimmed before it could be sent: clients that resume get a reset.
            for connection in channel.subscribers:
                connection.end("history was trimmed", at_once=True)
        channel.tell(event)
        if number % _FRAMES_PER_TURN == 0:
            # Let the writers run: a burst must not overflow the queue of a client that keeps up.
            await asyncio.sleep(0)
        await channel.room.wait()
