"""How many events wait for the relay, and refusing new ones when there are too many.

Guarantees: while Redis is down requests are still accepted, until `limit` events wait; from then on a request that
would add one is refused with 503 and `Retry-After`, so the outbox cannot grow without bound. Work already begun
continues: events that follow from other events, or from jobs, are never refused.
Does not guarantee: an exact limit. Each process counts every `WATCH_SECONDS`. Events published again because Redis lost
them do not count.
"""

import asyncio
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.errors import Unavailable
from shared.telemetry import get_logger

WATCH_SECONDS: Final = 1.0
_WAITING: Final = text(
    "SELECT count(*) FROM (SELECT FROM outbox WHERE published_at IS NULL AND entry_id IS NULL LIMIT :most) AS waiting"
)
_log = get_logger(__name__)


class BacklogFull(Unavailable):
    code = "backlog_full"
    detail = "Too many changes are waiting to be published; try again shortly."


class Backlog:
    """`waiting` is the number of unpublished events at the last count, at most `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.waiting = 0

    def refuse_when_full(self) -> None:
        """Called before a request adds events.

        Raises:
            BacklogFull: no more events may be added for now.
        """
        if self.waiting >= self.limit:
            raise BacklogFull(retry_after=5)

    async def watch(self, system: AsyncEngine) -> None:
        """Keep looking, as the system role, until cancelled."""
        while True:
            try:
                await self.look(system)
            except (SQLAlchemyError, OSError) as error:
                # Requests fail on their own then.
                _log.debug("backlog_unknown", reason=str(error)[:200])
            await asyncio.sleep(WATCH_SECONDS)

    async def look(self, system: AsyncEngine) -> None:
        async with system.connect() as connection:
            waiting = int(await connection.scalar(_WAITING, {"most": self.limit}) or 0)
        if (waiting >= self.limit) != (self.waiting >= self.limit):
            _log.warning("backlog_full" if waiting >= self.limit else "backlog_accepts_again", waiting=waiting)
        self.waiting = waiting
