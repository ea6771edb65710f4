"""Reading and deleting many points in bounded pieces, so that an engine serves others in between."""

from collections import Counter
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from services.indexing.vectors.engine import Condition, Engine, EngineRecord
from services.indexing.vectors.points import Tally
from services.indexing.vectors.scoped_filters import every, has_id

SIZE: Final = 128
"""How many points one call changes: describing that many takes an embedded engine some 20 ms."""

_SCROLL: Final = 1000


async def delete(engine: Engine, where: Condition, at_most: int | None = None) -> int:
    """Returns how many points were deleted; fewer than `at_most` means that none is left."""
    deleted = 0
    while at_most is None or deleted < at_most:
        wanted = SIZE if at_most is None else min(SIZE, at_most - deleted)
        piece = await engine.scroll(where, after=None, limit=wanted)
        if piece:
            await engine.delete(every(where, has_id([UUID(record["id"]) for record in piece])))
        deleted += len(piece)
        if len(piece) < wanted:
            break
    return deleted


async def delete_from(engines: Iterable[Engine], where: Condition, at_most: int | None = None) -> int:
    """`delete`, in one engine after the other."""
    deleted = 0
    for engine in engines:
        deleted += await delete(engine, where, None if at_most is None else at_most - deleted)
    return deleted


async def scroll(engine: Engine, where: Condition, *, most: int | None = None) -> list[EngineRecord]:
    records: list[EngineRecord] = []
    while True:
        after = UUID(records[-1]["id"]) if records else None
        page = await engine.scroll(where, after=after, limit=_SCROLL)
        records += page
        if len(page) < _SCROLL or (most is not None and len(records) >= most):
            return records


async def tally(engine: Engine, where: Condition) -> list[Tally]:
    counts = Counter(
        (record["tenant_id"], record["project_id"], record["document_id"], record["version"], record["generation"])
        for record in await scroll(engine, where)
    )
    return [
        Tally(UUID(tenant), UUID(project), UUID(document), version, generation, points)
        for (tenant, project, document, version, generation), points in sorted(counts.items())
    ]
