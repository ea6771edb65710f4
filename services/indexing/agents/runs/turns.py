"""The queue of runs, across tenants: whose turn it is, and how long a worker holds it.

Fair choice: the tenant with the fewest runs under way goes first, then the run that has waited longest; tenants that
hold their share of a worker's places are left out. What one tenant lets wait is bounded (`service.MOST_UNFINISHED`), so
the cost of choosing is as well. Runs to be forgotten come last.
"""

import uuid
from collections.abc import Collection
from datetime import timedelta
from typing import Final

from sqlalchemy import ARRAY, Uuid, and_, bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from services.indexing.agents.runs.models import RunTurn
from shared.work_queue import Retry, WorkQueue

_OTHER: Final = aliased(RunTurn)
_UNDER_WAY: Final = (
    select(func.count())
    .where(
        _OTHER.tenant_id == RunTurn.tenant_id, _OTHER.ended.is_(False), _OTHER.attempts > 0, _OTHER.due_at > func.now()
    )
    .correlate(RunTurn)
    .scalar_subquery()
)

QUEUE: Final = WorkQueue(
    RunTurn,
    due_at=RunTurn.due_at,
    claim=timedelta(seconds=8),
    attempts=RunTurn.attempts,
    retry=Retry(timedelta(seconds=1), timedelta(seconds=20)),
    due=and_(
        RunTurn.due_at <= func.now(),
        or_(RunTurn.ended, RunTurn.tenant_id != func.all(bindparam("full", type_=ARRAY(Uuid())))),
    ),
    order=(RunTurn.ended, _UNDER_WAY, RunTurn.due_at),
)


async def claim(session: AsyncSession, *, full: Collection[uuid.UUID], seconds: float) -> RunTurn | None:
    """Claim the next turn that is due, for so long.

    Args:
        full: tenants whose runs are left out.
    """
    return await QUEUE.claim(session, full=list(full), lasting=timedelta(seconds=seconds))
