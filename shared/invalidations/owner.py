"""The owner's side: leases are given out and renewed, and a change waits until its holders know of it."""

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from shared import notifications
from shared.errors import Forbidden, Unavailable
from shared.invalidations import LEASE_SECONDS, MARGIN_SECONDS, POLL_SECONDS
from shared.invalidations.models import CopyLease, Invalidation
from shared.invalidations.recording import Recorded
from shared.telemetry import get_logger
from shared.tenancy import Database

MOST_AT_ONCE: Final = 500
KEEP: Final = timedelta(hours=24)
MOST_BEGUN: Final = 3
ACKNOWLEDGED: Final = "acknowledged"
# How often to look while notifications are missing, because their connection is being restored.
_LOOK_SECONDS: Final = 0.25
_PRUNE_SECONDS: Final = 3600.0

_RENEW: Final = text(
    "INSERT INTO copy_leases (holder, consumer, acknowledged, expires_at) VALUES (:holder, :consumer, COALESCE("
    ":acknowledged, (SELECT max(acknowledged) FROM copy_leases WHERE consumer = :consumer AND :resumes), 0), "
    "clock_timestamp() + :lasts) "
    "ON CONFLICT (holder) DO UPDATE SET expires_at = excluded.expires_at, "
    "acknowledged = greatest(copy_leases.acknowledged, excluded.acknowledged) "
    "WHERE copy_leases.consumer = excluded.consumer AND NOT copy_leases.released "
    "RETURNING new.acknowledged AS acknowledged, CASE WHEN old.acknowledged < new.acknowledged "
    "THEN pg_notify(current_schema() || '_invalidations', 'acknowledged') END"
)
# The new holder's own lease is among those that began there.
_BEGUN: Final = text(
    "SELECT (SELECT min(position) FROM invalidations WHERE position > :position AND :consumer = ANY (consumers)) "
    "AS next, (SELECT count(*) FROM copy_leases "
    "WHERE consumer = :consumer AND acknowledged = :position AND NOT released) AS begun"
)
_RELEASE: Final = text(
    "INSERT INTO copy_leases (holder, consumer, acknowledged, expires_at, released) "
    "VALUES (:holder, :consumer, 0, clock_timestamp(), true) "
    "ON CONFLICT (holder) DO UPDATE SET expires_at = excluded.expires_at, released = true "
    "WHERE copy_leases.consumer = excluded.consumer "
    "RETURNING pg_notify(current_schema() || '_invalidations', 'acknowledged')"
)
_AFTER: Final = text(
    "SELECT log.newest, told.position, told.entry "
    "FROM (SELECT COALESCE(max(position), 0) AS newest FROM invalidations) AS log "
    "LEFT JOIN invalidations AS told ON told.position > :position AND :consumer = ANY (told.consumers) "
    "ORDER BY told.position LIMIT :most"
)
_SLOWEST: Final = text(
    "SELECT consumer, min(acknowledged) AS position FROM copy_leases WHERE expires_at > clock_timestamp() "
    "GROUP BY consumer"
)

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Changes:
    """What a holder has to apply and then acknowledge. `position` is that of the last entry, or of the whole log when
    there is none; `more` says that others follow. `forgotten` tells the holder to drop everything it remembers: entries
    before `position` are not sent."""

    position: int
    entries: Sequence[str]
    more: bool
    forgotten: bool


@dataclass(slots=True)
class _Waiter:
    recorded: Recorded
    settled: "asyncio.Future[None]"


class Owner:
    """Leases and waits of one process of the owning service; `run` must be running."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiters: list[_Waiter] = []
        self._look = asyncio.Event()
        self._told: asyncio.Event = asyncio.Event()

    # --- for requests that change something --------------------------------------------------------------------------

    async def wait(self, recorded: Recorded) -> None:
        """Return once every holder that may still use its copies has acknowledged.

        Raises:
            Unavailable: Postgres is unavailable.
        """
        waiter = _Waiter(recorded, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self._look.set()
        try:
            async with asyncio.timeout(LEASE_SECONDS + 2 * MARGIN_SECONDS):
                await waiter.settled
        except TimeoutError as error:
            raise Unavailable("The change is stored, but some services do not know it yet.", retry_after=2) from error
        finally:
            with suppress(ValueError):
                self._waiters.remove(waiter)

    # --- for holders -------------------------------------------------------------------------------------------------

    async def renew(
        self, holder: uuid.UUID, consumer: str, acknowledged: int | None, *, durable: bool, wait: bool
    ) -> Changes:
        """Extend a lease from now, and with `wait` wait a moment for new entries.

        Args:
            acknowledged: the position up to which the holder has applied everything; None for a new holder.
            durable: what a holder of this consumer has applied is applied for all of them, also after a restart.
        """
        position = await self._extend(holder, consumer, acknowledged, resumes=durable)
        if acknowledged is None and durable:
            position = await self._past_deadly(holder, consumer, position)
        if acknowledged is None and not durable:
            # The holder has nothing yet; its lease is committed, so changes to what it asks for from now on reach it.
            return Changes(await self._newest(), (), more=False, forgotten=True)
        deadline = asyncio.get_running_loop().time() + POLL_SECONDS
        while True:
            told = self._told
            changes = await self._after(position, consumer)
            left = deadline - asyncio.get_running_loop().time()
            if changes.entries or left <= 0 or not wait:
                return changes
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await told.wait()

    async def release(self, holder: uuid.UUID, consumer: str) -> None:
        """End the lease of a holder that uses no copy any more."""
        async with self._database.leases() as session:
            await session.execute(_RELEASE, {"holder": holder, "consumer": consumer})

    async def _extend(self, holder: uuid.UUID, consumer: str, acknowledged: int | None, *, resumes: bool) -> int:
        async with self._database.leases() as session:
            renewed = await session.execute(
                _RENEW,
                {
                    "holder": holder,
                    "consumer": consumer,
                    "acknowledged": acknowledged,
                    "resumes": resumes,
                    "lasts": timedelta(seconds=LEASE_SECONDS + MARGIN_SECONDS),
                },
            )
            row = renewed.one_or_none()
        if row is None:
            raise Forbidden("The holder has released its lease, or belongs to another consumer.")
        return int(row.acknowledged)

    async def _past_deadly(self, holder: uuid.UUID, consumer: str, position: int) -> int:
        """Where a new holder begins. Entries that several holders before it began with and did not survive are left to
        the stream, which counts deliveries and quarantines; otherwise its processes would die of them for ever."""
        async with self._database.leases() as session:
            found = (await session.execute(_BEGUN, {"consumer": consumer, "position": position})).one()
        if found.next is None or found.begun <= MOST_BEGUN:
            return position
        _log.error("invalidation_left_to_the_stream", consumer=consumer, position=found.next)
        return await self._extend(holder, consumer, found.next, resumes=True)

    async def _newest(self) -> int:
        async with self._database.leases() as session:
            return await session.scalar(select(func.max(Invalidation.position))) or 0

    async def _after(self, position: int, consumer: str) -> Changes:
        """In one statement, so that what was committed in between is in neither or both of its parts."""
        async with self._database.leases() as session:
            rows = (
                await session.execute(_AFTER, {"position": position, "consumer": consumer, "most": MOST_AT_ONCE})
            ).all()
        entries = [row.entry for row in rows if row.entry is not None]
        more = len(entries) == MOST_AT_ONCE
        newest = rows[-1].position if more else max(position, rows[0].newest)
        return Changes(newest, entries, more=more, forgotten=False)

    # --- in the background -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Listen to other processes and settle waits, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(
                notifications.hear(self._database.engines.leases, "_invalidations", self._on_notification),
                name="invalidations: listening",
            )
            group.create_task(self._settle(), name="invalidations: settling")
            group.create_task(self._prune(), name="invalidations: pruning")

    async def _settle(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS if self._waiters else None):
                    await self._look.wait()
            self._look.clear()
            if not (waiting := list(self._waiters)):
                continue
            try:
                async with self._database.leases() as session:
                    slowest = {row.consumer: row.position for row in await session.execute(_SLOWEST)}
            except (SQLAlchemyError, OSError) as error:
                _log.warning("invalidations_unsettled", reason=str(error)[:200])
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            for waiter in waiting:
                position, consumers = waiter.recorded.position, waiter.recorded.consumers
                known = all(slowest.get(name, position) >= position for name in consumers)
                if known and not waiter.settled.done():
                    waiter.settled.set_result(None)

    async def _prune(self) -> None:
        """Forget invalidations that are a day old, and leases that ended a day ago."""
        while True:
            try:
                async with self._database.leases() as session:
                    await session.execute(delete(Invalidation).where(Invalidation.created_at < func.now() - KEEP))
                    await session.execute(delete(CopyLease).where(CopyLease.expires_at < func.now() - KEEP))
            except (SQLAlchemyError, OSError) as error:
                _log.warning("pruning_postponed", reason=str(error)[:200])
            await asyncio.sleep(_PRUNE_SECONDS)

    def _on_notification(self, payload: str) -> None:
        self._look.set()
        if payload != ACKNOWLEDGED:
            told, self._told = self._told, asyncio.Event()
            told.set()
