"""All open streams of this process: how many there may be, how they are kept alive, and when they end.

One loop serves all of them: it sends heartbeats to idle ones and ends old ones. It reads clocks and queues frames; it
never waits for a client.
"""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from services.notifier.feeds.repository import FeedKey
from services.notifier.settings import NotifierSettings
from services.notifier.streams.connection import Connection
from services.notifier.streams.errors import StreamsExhausted, TooManyStreams
from services.notifier.streams.frames import HEARTBEAT
from shared.auth import Principal

_UNSTARTED_SECONDS = 30.0
_MOST_TEND_SECONDS = 1.0
# How many streams are handled before the event loop gets a turn.
_TENDED_AT_ONCE = 500


class Connections:
    """The open streams, by tenant.

    Attributes:
        ended: how many ended, by reason.
    """

    def __init__(self, settings: NotifierSettings) -> None:
        self._settings = settings
        self._by_tenant: dict[uuid.UUID, set[Connection]] = {}
        self._by_caller: Counter[tuple[uuid.UUID, uuid.UUID | str]] = Counter()
        self._count = 0
        self._draining = False
        self._frames_of_ended = 0
        self.ended: Counter[str] = Counter()

    def admit(self, principal: Principal, key: FeedKey) -> Connection:
        """A place for one more stream, given back by `discard`.

        Raises:
            TooManyStreams: the caller or its tenant has as many as it may.
            StreamsExhausted: this process is at its limit, or about to stop.
        """
        settings = self._settings
        if self._draining or self._count >= settings.max_streams:
            raise StreamsExhausted(retry_after=2)
        of_tenant = self._by_tenant.get(key.tenant_id, ())
        caller = _caller(principal, key)
        if len(of_tenant) >= settings.max_streams_per_tenant or self._by_caller[caller] >= (
            settings.max_streams_per_caller
        ):
            raise TooManyStreams(retry_after=5)
        now = asyncio.get_running_loop().time()
        lasts = settings.stream_seconds * random.uniform(1, 4 / 3)  # noqa: S311  # spreading load, not a secret
        if principal.credential_until is not None:
            lasts = min(lasts, (principal.credential_until - datetime.now(UTC)).total_seconds())
        connection = Connection(principal, key, queue_frames=settings.queue_frames, now=now, ends_at=now + lasts)
        self._by_tenant.setdefault(key.tenant_id, set()).add(connection)
        self._by_caller[caller] += 1
        self._count += 1
        return connection

    def discard(self, connection: Connection) -> None:
        of_tenant = self._by_tenant.get(connection.key.tenant_id, set())
        if connection not in of_tenant:
            return
        of_tenant.discard(connection)
        if not of_tenant:
            del self._by_tenant[connection.key.tenant_id]
        caller = _caller(connection.principal, connection.key)
        self._by_caller[caller] -= 1
        if not self._by_caller[caller]:
            del self._by_caller[caller]
        self._count -= 1
        self._frames_of_ended += connection.frames
        self.ended[connection.ending or "not opened"] += 1

    def of_tenant(self, tenant_id: uuid.UUID) -> list[Connection]:
        return list(self._by_tenant.get(tenant_id, ()))

    def tenants(self) -> list[uuid.UUID]:
        """Tenants with an open stream."""
        return list(self._by_tenant)

    def __iter__(self) -> Iterator[Connection]:
        for of_tenant in list(self._by_tenant.values()):
            yield from list(of_tenant)

    def __len__(self) -> int:
        return self._count

    @property
    def frames(self) -> int:
        """How many frames were written so far."""
        return self._frames_of_ended + sum(connection.frames for connection in self)

    def renew(self, within: float) -> None:
        """End every stream at a random moment within this many seconds, so that its client is authenticated anew."""
        now = asyncio.get_running_loop().time()
        for connection in self:
            ends_at = now + random.uniform(0, within)  # noqa: S311  # spreading load, not a secret
            connection.ends_at = min(connection.ends_at, ends_at)

    def drain(self) -> None:
        """End every stream and admit no more: the process is about to stop."""
        self._draining = True
        for connection in self:
            connection.end("restarting")

    async def tend(self) -> None:
        """Send heartbeats and end old streams, until cancelled."""
        while True:
            await asyncio.sleep(min(_MOST_TEND_SECONDS, self._settings.heartbeat_seconds / 4))
            now = asyncio.get_running_loop().time()
            for number, connection in enumerate(self, start=1):
                self._tend_one(connection, now)
                if number % _TENDED_AT_ONCE == 0:
                    await asyncio.sleep(0)

    def _tend_one(self, connection: Connection, now: float) -> None:
        since = connection.writing_since
        if connection.writer is None:
            # The client went away between the response and its first byte.
            if now - connection.opened_at > _UNSTARTED_SECONDS:
                self.discard(connection)
        elif since is not None and now - since > self._settings.send_seconds:
            connection.cut_off()
        elif now >= connection.ends_at:
            connection.end("resume")
        elif now - connection.wrote_at >= self._settings.heartbeat_seconds:
            connection.wrote_at = now
            connection.offer(HEARTBEAT)


def _caller(principal: Principal, key: FeedKey) -> tuple[uuid.UUID, uuid.UUID | str]:
    return key.tenant_id, principal.credential_id or principal.subject
