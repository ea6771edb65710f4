"""SQL of applying vector changes: whose turn it is, and what is left afterwards."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import ARRAY, CursorResult, Uuid, bindparam, case, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import ReturningUpdate

from services.indexing.documents import repository
from services.indexing.documents.models import VectorChange

# A claimed change is due again after this many seconds, doubled each time, three times: two workers on one are
# harmless, and a change that never succeeds must not hold up the others.
_CLAIM_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Owed:
    tenant_id: uuid.UUID
    id: uuid.UUID
    document_id: uuid.UUID | None
    describe: bool
    revision: uuid.UUID
    position: uuid.UUID | None


def _claim_due() -> ReturningUpdate[*tuple[Any, ...]]:
    again = _CLAIM_SECONDS * func.power(2, func.least(VectorChange.attempts, 3))
    due = (
        select(VectorChange.tenant_id, VectorChange.id)
        .where(
            VectorChange.tenant_id > bindparam("after", type_=Uuid()),
            VectorChange.tenant_id != func.all(bindparam("excluded", type_=ARRAY(Uuid()))),
            VectorChange.due_at <= func.now(),
        )
        .order_by(VectorChange.tenant_id, VectorChange.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    return (
        update(VectorChange)
        .where(VectorChange.tenant_id == due.c.tenant_id, VectorChange.id == due.c.id)
        .values(due_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, again), attempts=VectorChange.attempts + 1)
        .returning(
            VectorChange.tenant_id,
            VectorChange.id,
            VectorChange.document_id,
            VectorChange.describe,
            VectorChange.revision,
            VectorChange.position,
        )
        .execution_options(synchronize_session=False)
    )


_CLAIM: Final = _claim_due()


async def claim(session: AsyncSession, *, after: uuid.UUID, but: Collection[uuid.UUID]) -> Owed | None:
    """The change of the next tenant, round robin by id, that has waited longest. One look at the index per claim."""
    for first in (after, uuid.UUID(int=0)):
        row = (await session.execute(_CLAIM, {"after": first, "excluded": list(but)})).one_or_none()
        if row is not None:
            return Owed(*row)
    return None


async def settle(session: AsyncSession, change: Owed) -> None:
    """Remove an applied change, unless it grew meanwhile."""
    found = cast(
        "CursorResult[None]",
        await session.execute(
            delete(VectorChange)
            .where(VectorChange.id == change.id, VectorChange.revision == change.revision)
            .execution_options(synchronize_session=False)
        ),
    )
    if found.rowcount:
        return
    if not await go_on(session, change, None) and change.describe:
        # Another process settled a later revision meanwhile, and this one may have overwritten its metadata.
        await repository.enqueue_vector_change(session, change.document_id, describe=True)


async def go_on(session: AsyncSession, change: Owed, position: uuid.UUID | None) -> bool:
    """Make the change due again now, behind the others; from `position`, unless it grew. Returns whether it exists."""
    found = cast(
        "CursorResult[None]",
        await session.execute(
            update(VectorChange)
            .where(VectorChange.id == change.id)
            .values(
                due_at=func.now(),
                attempts=0,
                position=case((VectorChange.revision == change.revision, position), else_=VectorChange.position),
            )
            .execution_options(synchronize_session=False)
        ),
    )
    return bool(found.rowcount)
