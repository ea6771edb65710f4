"""Dead letters tried again: a request is stored in the row, and any process that handles events performs it.

Guarantees: a request is stored before any process acts on it, so it survives the process that took it and waits for a
service that is down. It ends as `redriven` or as a new failure, with its reason and its count. The inbox makes a second
redrive of an applied event harmless, and a letter that is `redriven` is never begun again, so that stays true when the
inbox row has been pruned; other letters of the same event and handler are closed with it.
Does not guarantee: order. Handlers compare sequences, as always.
Fails by: waiting. While Postgres is down nothing is counted as a failure of the event. A process that dies in the
middle leaves a lease that runs out; after `MAX_STARTS` starts without an end the request is given up.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import ARRAY, ColumnElement, Update, Uuid, and_, any_, bindparam, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from shared.db import is_outage
from shared.dead_letters import DeadLetter, State, Wanted, storable
from shared.failpoints import failpoint
from shared.metrics import Metrics
from shared.telemetry import get_logger
from shared.tenancy import Database
from shared.work_queue import WorkQueue, keep_working

POLL_SECONDS: Final = 1.0
REDRIVE_SECONDS: Final = 25.0
LEASE: Final = timedelta(seconds=30)
POSTPONED: Final = timedelta(seconds=2)
MAX_STARTS: Final = 5

AFTER_CLAIM = failpoint("redrive.after_claim", "a redrive is leased, nothing applied")
AFTER_APPLY = failpoint("redrive.after_apply", "the event is applied, its dead letter still open")
AFTER_OUTCOME = failpoint("redrive.after_outcome", "the outcome of a redrive is stored, nobody told")

Apply = Callable[[bytes, str, str], Awaitable[None]]
"""Runs one handler, or for `decode` every handler of the event's type, on a raw entry of a stream; raises what the
handler does."""

_REQUESTS: Final = WorkQueue(
    DeadLetter,
    due_at=DeadLetter.redrive_leased_until,
    claim=LEASE,
    attempts=DeadLetter.redrive_starts,
    due=and_(
        DeadLetter.redrive_requested_at.is_not(None),
        or_(DeadLetter.redrive_leased_until.is_(None), DeadLetter.redrive_leased_until < func.now()),
    ),
    order=(DeadLetter.redrive_requested_at, DeadLetter.id),
)

_log = get_logger(__name__)


# --- asking for it ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request. `open` with a `reason` is a failed redrive."""

    id: uuid.UUID
    handler: str
    state: State
    reason: str | None


async def request(session: AsyncSession, ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Ask for the redrive of letters by id; returns those that exist. One redriven before stays as it is."""
    await session.execute(_ask(_among(ids)))
    return list(await session.scalars(select(DeadLetter.id).where(_among(ids)).order_by(DeadLetter.id)))


async def request_all(session: AsyncSession, wanted: Wanted) -> list[uuid.UUID]:
    """Ask for the redrive of all open letters that are wanted; returns the ids of those not asked for before."""
    asked = await session.scalars(_ask(*wanted.criteria()).returning(DeadLetter.id))
    return sorted(asked)


async def outcomes(session: AsyncSession, ids: Sequence[uuid.UUID]) -> list[Outcome]:
    """Where the letters are now, in the order of their ids."""
    columns = (
        DeadLetter.id,
        DeadLetter.handler,
        DeadLetter.redriven_at,
        DeadLetter.redrive_requested_at,
        DeadLetter.last_reason,
    )
    rows = await session.execute(select(*columns).where(_among(ids)).order_by(DeadLetter.id))
    found = []
    for row in rows:
        state: State = "redriven" if row.redriven_at else "waiting" if row.redrive_requested_at else "open"
        found.append(Outcome(row.id, row.handler, state, row.last_reason if state == "open" else None))
    return found


def _among(ids: Sequence[uuid.UUID]) -> ColumnElement[bool]:
    # One parameter, however many ids: a statement takes no more than 32,767.
    return DeadLetter.id == any_(bindparam(None, list(ids), type_=ARRAY(Uuid(as_uuid=True))))


def _ask(*criteria: ColumnElement[bool]) -> Update:
    """A letter that waits already keeps its place and its count of starts."""
    return (
        update(DeadLetter)
        .where(DeadLetter.redriven_at.is_(None), DeadLetter.redrive_requested_at.is_(None), *criteria)
        .values(redrive_requested_at=func.now(), redrive_starts=0, redrive_leased_until=None)
        .execution_options(synchronize_session=False)
    )


# --- doing it --------------------------------------------------------------------------------------------------------


class Redriver:
    """Performs requests, one after the other, until cancelled; any number of processes may run one."""

    def __init__(
        self, database: Database, apply: Apply, metrics: Metrics | None = None, *, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._database = database
        self._apply = apply
        self._metrics = metrics or Metrics.unread()
        self._poll_seconds = poll_seconds

    async def run(self) -> None:
        await keep_working(self.redrive_next, name="redriver", poll_seconds=self._poll_seconds)

    async def redrive_next(self) -> bool:
        """Perform the oldest request that no process holds; False when there is none."""
        return await _REQUESTS.work_on_next(self._database, self._perform)

    async def _perform(self, letter: DeadLetter) -> None:
        await AFTER_CLAIM.reach()
        if letter.redrive_starts > MAX_STARTS:
            await self._failed(letter, f"ProcessEnded: {MAX_STARTS} processes ended while redriving it")
            return
        deadline = asyncio.timeout(REDRIVE_SECONDS)
        try:
            async with deadline:
                await self._apply(letter.payload, letter.handler, letter.stream)
        except Exception as error:  # noqa: BLE001  # a handler may raise anything; it becomes the letter's reason
            await self._not_applied(letter, error, outage=is_outage(error) and not deadline.expired())
        else:
            await AFTER_APPLY.reach()
            await self._succeeded(letter)
        await AFTER_OUTCOME.reach()

    async def _not_applied(self, letter: DeadLetter, error: Exception, *, outage: bool) -> None:
        if outage and letter.redrive_starts < MAX_STARTS:
            _log.warning("redrive_postponed", dead_letter=str(letter.id), reason=type(error).__name__)
            async with self._database.system() as session:
                await _REQUESTS.postpone(session, letter, POSTPONED)
            return
        _log.warning("redrive_failed", dead_letter=str(letter.id), handler=letter.handler, exc_info=error)
        await self._failed(letter, f"{type(error).__name__}: {error}")

    async def _failed(self, letter: DeadLetter, reason: str) -> None:
        async with self._database.system() as session:
            current = await _REQUESTS.held(session, letter)
            current.redrive_requested_at = current.redrive_leased_until = None
            current.redrives += 1
            current.attempts += 1
            current.last_reason = storable(reason)
            current.last_failed_at = func.now()
        self._metrics.redriven(letter.handler, failed=True)

    async def _succeeded(self, letter: DeadLetter) -> None:
        """Close the letter, and every other of the same event and handler: Redis may have delivered it twice."""
        same = DeadLetter.event_id == letter.event_id if letter.event_id else DeadLetter.payload == letter.payload
        twins = and_(DeadLetter.handler == letter.handler, same, DeadLetter.id != letter.id)
        closed = {"redriven_at": func.now(), "redrive_requested_at": None, "redrive_leased_until": None}
        async with self._database.system() as session:
            await session.execute(
                update(DeadLetter)
                .where(DeadLetter.id == letter.id)
                .values(redrives=DeadLetter.redrives + 1, attempts=DeadLetter.attempts + 1, **closed)
                .execution_options(synchronize_session=False)
            )
            await session.execute(
                update(DeadLetter)
                .where(twins, DeadLetter.redriven_at.is_(None))
                .values(**closed)
                .execution_options(synchronize_session=False)
            )
        self._metrics.redriven(letter.handler, failed=False)
        _log.info("redriven", dead_letter=str(letter.id), handler=letter.handler)
