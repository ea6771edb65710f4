"""Work queues: the rows of a table, each to be worked on once it is due, by one process at a time.

A process claims a row by moving its due time to the end of the claim, commits, and works without a lock. Each claim
ends later than those before it, so its end is also the fencing token: what a process writes for a claim that it has
lost finds no row, and `ClaimLost` rolls its transaction back.

Guarantees: one process at a time holds the claim on a row. A row stays until it is finished: it is due again soon after
its work failed or was cancelled, and at the end of its claim when the process died or hangs. Whoever makes a claimed
row due takes the claim away.
Does not guarantee: that work is done only once. A claim may end while its holder still works, so effects outside of the
transaction in which the row is finished must be repeatable. Nor an order: rows that are due are worked on side by side.
Fails by: waiting. What fails for one row delays no other; while Postgres or another service is away, loops pause.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import ColumnElement, DateTime, Executable, Interval, bindparam, delete, func, inspect, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm.attributes import set_committed_value

from shared.db import Model
from shared.errors import Unavailable
from shared.resilience import Backoff
from shared.telemetry import get_logger
from shared.tenancy import Database
from shared.wakeups import Signal

AWAY: Final = (SQLAlchemyError, OSError, Unavailable)
"""What calls raise while Postgres or another service cannot be reached."""

_RELEASE_SECONDS: Final = 1.0
_UNSYNCHRONIZED: Final = {"synchronize_session": False}
_log = get_logger(__name__)

Item = TypeVar("Item", bound=Model)


class ClaimLost(Exception):
    """The claim has ended, and another process may have the row: nothing may be written for it any more."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How long to wait after a failure: `first`, doubled with every further attempt up to `most`."""

    first: timedelta
    most: timedelta

    def after(self, attempts: int) -> timedelta:
        return min(self.most, self.first * 2.0 ** min(attempts - 1, 30))


class WorkQueue(Generic[Item]):
    """A table as a queue: its statements, made once. A constant of the module that knows the table.

    Args:
        due_at: the column with the time from which a row may be claimed; null is never.
        claim: how long a claim lasts, where `claim` and `renew` are not told otherwise.
        attempts: the column that counts claims, if there is one.
        due: which rows may be claimed, if not those whose `due_at` has passed; its parameters are given to `claim`.
        order: which of them first, if not the one that has been due longest.
        retry: when a row whose work failed is due again, if not at the end of its claim.
    """

    def __init__(
        self,
        table: type[Item],
        *,
        due_at: InstrumentedAttribute[Any],
        claim: timedelta,
        attempts: InstrumentedAttribute[int] | None = None,
        due: ColumnElement[bool] | None = None,
        order: tuple[InstrumentedAttribute[Any] | ColumnElement[Any], ...] = (),
        retry: Retry | None = None,
    ) -> None:
        self._name, self._due_at, self._attempts, self._retry = table.__tablename__, due_at, attempts, retry
        self._key = tuple(getattr(table, str(column.key)) for column in inspect(table).primary_key)
        claimed_until = func.now() + bindparam("lasting", claim, type_=Interval)
        next_due = (
            select(*self._key)
            .where(due_at <= func.now() if due is None else due)
            .order_by(*(order or (due_at,)))
            .limit(1)
            .with_for_update(skip_locked=True)
            .cte("next_due")
        )
        self._claim = (
            update(table)
            .where(*(column == next_due.c[column.key] for column in self._key))
            .values({due_at: claimed_until, **({} if attempts is None else {attempts: attempts + 1})})
            .returning(table)
            .execution_options(synchronize_session=False, populate_existing=True)
        )
        held = (
            due_at == bindparam("held_until", type_=DateTime(timezone=True)),
            *(column == bindparam(f"held_{column.key}", type_=column.type) for column in self._key),
        )
        self._hold = select(table).where(*held).with_for_update().execution_options(populate_existing=True)
        self._finish = delete(table).where(*held).returning(due_at)
        self._renew = update(table).where(*held).values({due_at: claimed_until}).returning(due_at)
        later = func.now() + bindparam("delay", type_=Interval)
        self._postpone = update(table).where(*held).values({due_at: later}).returning(due_at)

    async def claim(self, session: AsyncSession, **parameters: object) -> Item | None:
        """Claim the next row that is due; None when there is none. The claim stands once the transaction commits.

        Args:
            parameters: those of `due`; and `lasting`, a timedelta, for a claim of another length.
        """
        return await session.scalar(self._claim, parameters)

    async def held(self, session: AsyncSession, item: Item) -> Item:
        """The row as it is now, locked: what the transaction writes is written while the claim is held.

        Raises:
            ClaimLost: as `renew`, `finish` and `postpone` do.
        """
        row: Item = await self._claimed(session, self._hold, item)
        return row

    async def renew(self, session: AsyncSession, item: Item, *, lasting: timedelta | None = None) -> None:
        """Begin the claim anew: work that takes long does so before it ends. Lost if the transaction then fails."""
        length = {} if lasting is None else {"lasting": lasting}
        set_committed_value(item, self._due_at.key, await self._claimed(session, self._renew, item, **length))

    async def finish(self, session: AsyncSession, item: Item) -> None:
        """Remove the row."""
        await self._claimed(session, self._finish, item)

    async def postpone(self, session: AsyncSession, item: Item, delay: timedelta) -> None:
        """Give the claim up; the row is due again after `delay`."""
        await self._claimed(session, self._postpone, item, delay=delay)

    async def work_on_next(
        self, database: Database, work: Callable[[Item], Awaitable[None]], **parameters: object
    ) -> bool:
        """Claim a row and have its work done, which also finishes the row; False when none is due.

        Raises:
            AWAY: as the work did; its other failures are only logged. The row is due again after either.
        """
        async with database.system() as session:
            item = await self.claim(session, **parameters)
        if item is not None:
            await self.work_on(database, item, work)
        return item is not None

    async def work_on(self, database: Database, item: Item, work: Callable[[Item], Awaitable[None]]) -> None:
        """`work_on_next`, for a row that is claimed already."""
        try:
            await work(item)
        except ClaimLost:
            _log.info("claim_lost", **self._names(item))
        except asyncio.CancelledError:
            with suppress(*AWAY):
                async with asyncio.timeout(_RELEASE_SECONDS):
                    await self._release(database, item, timedelta(0))
            raise
        except Exception as error:
            away = isinstance(error, AWAY)
            reason = f"{type(error).__name__}: {error}"[:200]
            _log.warning("work_failed", **self._names(item), reason=reason, exc_info=None if away else error)
            if self._retry is not None:
                attempts = 1 if self._attempts is None else getattr(item, self._attempts.key)
                await self._release(database, item, self._retry.after(attempts))
            if away:
                raise

    async def _release(self, database: Database, item: Item, delay: timedelta) -> None:
        with suppress(ClaimLost):
            async with database.system() as session:
                await self.postpone(session, item, delay)

    async def _claimed(self, session: AsyncSession, statement: Executable, item: Item, **parameters: object) -> Any:
        """What a statement about the row returns while the claim is held."""
        key = {f"held_{column.key}": getattr(item, column.key) for column in self._key}
        values = {**key, "held_until": getattr(item, self._due_at.key), **parameters}
        found = await session.scalar(statement, values, execution_options=_UNSYNCHRONIZED)
        if found is None:
            raise ClaimLost
        return found

    def _names(self, item: Item) -> dict[str, str]:
        """For the log."""
        return {"queue": self._name, **{column.key: str(getattr(item, column.key)) for column in self._key}}


async def keep_working(
    step: Callable[[], Awaitable[bool]], *, name: str, poll_seconds: float, wake: Signal | None = None
) -> None:
    """Call `step` until cancelled: again at once when it found something to do, else after a poll or a wake-up.

    Pauses, longer each time, while `step` raises, whatever it is.
    """
    wake = wake or Signal()
    backoff = Backoff(first=0.1, most=2.0)
    while True:
        try:
            found = await step()
        except Exception as error:
            pause = backoff.next()
            if backoff.worth_telling:
                reason, defect = str(error)[:200], None if isinstance(error, AWAY) else error
                _log.warning("work_paused", work=name, reason=reason, retry_in=round(pause, 2), exc_info=defect)
            await asyncio.sleep(pause)
        else:
            backoff.reset()
            if not found:
                await wake.wait(poll_seconds)
