"""How long a project's chunks are on average, which keyword search measures each against.

Each document says how long its own are, since its version went live: that costs no writes, needs no counter that all
jobs of a project would wait for, and a deletion is seen at once. The sum over a project's documents is remembered for
`_SHARE` times as long as it took, so that a hundredth of the time of indexing goes to it, however large the project.
"""

import time
import uuid
from collections import OrderedDict
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents import repository
from services.indexing.vectors.points import USUAL_LENGTH

_SHARE: Final = 100
_PROJECTS: Final = 1024


class Lengths(NamedTuple):
    chunks: int
    characters: int


def average(known: Lengths, own: Lengths) -> float:
    """The mean length of a project's chunks in characters, when there are also `own`."""
    chunks = known.chunks + own.chunks
    return (known.characters + own.characters) / chunks if chunks else USUAL_LENGTH


class ChunkLengths:
    """One for a process."""

    def __init__(self) -> None:
        self._remembered: OrderedDict[uuid.UUID, tuple[Lengths, float]] = OrderedDict()

    async def of_project(self, session: AsyncSession, project_id: uuid.UUID) -> Lengths:
        """The lengths of the chunks that the project's search finds."""
        began = time.monotonic()
        known, until = self._remembered.get(project_id, (Lengths(0, 0), 0.0))
        if began >= until:
            known = Lengths(*await repository.indexed_lengths(session, project_id))
            now = time.monotonic()
            self._remembered[project_id] = known, now + _SHARE * (now - began)
            self._remembered.move_to_end(project_id)
            if len(self._remembered) > _PROJECTS:
                self._remembered.popitem(last=False)
        return known
