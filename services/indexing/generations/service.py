"""What happens to a project's generations, in transactions of its tenant.

Which generation search reads is changed in one statement of one transaction, `switch`. Versions go live beside it under
a lock that it waits for (`goes_live`), so each version has its points in the generation that is active from then on, or
is known to be lacking in the one being built.
"""

import uuid
from datetime import timedelta
from typing import Final

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.generations import repository
from services.indexing.generations.errors import (
    GenerationNotFound,
    GenerationSwitched,
    NotBuilding,
    NothingToReturnTo,
    ReindexInProgress,
    TooManyGenerations,
)
from services.indexing.generations.identity import Identity
from services.indexing.generations.models import Generation

_MOST: Final = 4
"""Of a project, whatever their state: each holds points."""


async def request(
    session: AsyncSession, *, project_id: uuid.UUID, identity: Identity, key: str | None = None
) -> Generation:
    """Begin a new generation beside the active one; the same one again for a request with the same `key`.

    Raises:
        ReindexInProgress, TooManyGenerations
    """
    await repository.begin_switching(session, project_id)
    await repository.begun(session, project_id, identity)
    rows = await repository.of_project(session, project_id, locked=True)
    for row in rows:
        if key is not None and row.request_key == key:
            return row
    if any(row.state == "building" for row in rows):
        raise ReindexInProgress
    if len(rows) >= _MOST:
        raise TooManyGenerations(retry_after=5)
    number = max(row.highest for row in rows) + 1
    next(row for row in rows if row.state == "active").highest = number
    generation = Generation(
        project_id=project_id,
        number=number,
        highest=number,
        embedder=identity.embedder,
        dimensions=identity.dimensions,
        analyzer=identity.analyzer,
        state="building",
        request_key=key,
    )
    session.add(generation)
    await session.flush()
    await session.refresh(generation)
    return generation


async def cancel(session: AsyncSession, *, project_id: uuid.UUID, number: int) -> Generation:
    """Give a generation up; search is not affected.

    Raises:
        GenerationNotFound, NotBuilding
    """
    await repository.begin_switching(session, project_id)
    generation = await repository.by_number(session, project_id, number)
    if generation is None:
        raise GenerationNotFound
    if generation.state != "building":
        raise NotBuilding
    _drop(generation)
    return generation


async def roll_back(session: AsyncSession, *, project_id: uuid.UUID) -> Generation:
    """Return to the generation before, once it has the points of what was indexed since.

    Raises:
        ReindexInProgress, NothingToReturnTo
    """
    await repository.begin_switching(session, project_id)
    rows = await repository.of_project(session, project_id, locked=True)
    if any(row.state == "building" for row in rows):
        raise ReindexInProgress
    kept = next((row for row in rows if row.state == "kept"), None)
    if kept is None:
        raise NothingToReturnTo
    kept.state, kept.kept_until, kept.done, kept.total, kept.error = "building", None, 0, None, None
    begin_comparing(kept)
    return kept


async def goes_live(session: AsyncSession, *, project_id: uuid.UUID, document_id: uuid.UUID, written: int) -> None:
    """A version is about to be found, by its points in the generation `written`. Comes after the document's lock.

    Raises:
        GenerationSwitched: search reads another one by now.
    """
    await repository.keep_from_switching(session, project_id)
    current = await repository.current(session, project_id)
    if current is None or current.number != written:
        raise GenerationSwitched
    building = await repository.building(session, project_id)
    if building is not None:
        await repository.enqueue(session, project_id, building, [document_id])


async def switch(session: AsyncSession, generation: Generation, *, kept_for: timedelta, next_check: timedelta) -> bool:
    """Have search read the generation, if nothing is lacking in it; the one before is kept for a while.

    The caller holds its claim.
    """
    await repository.begin_switching(session, generation.project_id)
    rows = await repository.of_project(session, generation.project_id, locked=True)
    chosen = next((row for row in rows if row.number == generation.number and row.state == "building"), None)
    if chosen is None or await repository.lacking(session, chosen.project_id, chosen.number, most=1):
        return False
    for row in rows:
        if row.state == "kept":
            _drop(row)
        elif row.state == "active":
            row.state, row.requested = "kept", None
            row.kept_until = row.due_at = func.now() + kept_for
    chosen.highest = max(row.highest for row in rows)
    # First, since an index allows only one that is active.
    await session.flush()
    chosen.state, chosen.activated_at, chosen.checked_at, chosen.error = "active", func.now(), func.now(), None
    begin_comparing(chosen)
    chosen.due_at = func.now() + next_check
    return True


def begin_comparing(generation: Generation) -> None:
    """From the first document, now."""
    generation.phase, generation.position, generation.differed = "documents", None, 0
    generation.attempts, generation.due_at = 0, func.now()


def _drop(generation: Generation) -> None:
    generation.state, generation.kept_until, generation.error = "dropping", None, None
    generation.attempts, generation.due_at = 0, func.now()
