"""The documents of a run's project, read as the run's caller.

Guarantees: every read checks what the caller may do at that moment, in the statement that reads; text comes from live
versions only. Nothing here takes a tenant, a project or a scope from anything but the run itself.
"""

import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Final

from services.indexing.agents import repository
from services.indexing.agents.contracts import Passage, StoredText, Value
from services.indexing.agents.repository import PlacedChunk
from services.indexing.search import service as search
from services.indexing.search.engine import SearchEngine
from services.indexing.search.schemas import SearchRequest
from shared.auth import Principal, Scope
from shared.project_access import Admission
from shared.telemetry import span

MOST_READ: Final = 100_000
"""Characters of one `read`."""


class Place(Value):
    """A chunk, without its text, and how well it fits. What is kept of passages: their text is read when needed."""

    document_id: uuid.UUID
    version: int
    chunk_index: int
    score: float


class Knowledge:
    """Of one run. `principal` gives the caller as last checked."""

    def __init__(
        self, engine: SearchEngine, principal: Callable[[], Principal], *, tenant_id: uuid.UUID, project_id: uuid.UUID
    ) -> None:
        self._engine = engine
        self._principal = principal
        self._tenant_id = tenant_id
        self._project_id = project_id

    async def find(self, request: SearchRequest) -> list[Place]:
        """The best chunks for a query, best first.

        Raises:
            NotFound, Forbidden: the caller may not search the project any more.
            RateLimited, Unavailable: not now.
        """
        with span("retrieval", attributes={"gen_ai.operation.name": "retrieval"}) as current:
            found = await search.hits(
                self._engine, self._principal(), project_id=self._project_id, request=request, has_operators=False
            )
            current.set_attribute("quarry.retrieval.passages", len(found))
        return [Place(document_id=hit.document_id, version=hit.version, chunk_index=hit.chunk_index, score=hit.score)
                for hit, _ in found]  # fmt: skip

    async def passages(self, places: Sequence[Place]) -> list[Passage]:
        """The passages at these places, in the same order, without those that are gone meanwhile.

        Raises:
            NotFound, Forbidden, Unavailable: as `find`.
        """
        keys: Collection[tuple[uuid.UUID, int, int]] = [_key(place) for place in places]
        async with self._engine.database.tenant(self._tenant_id) as session:
            chunks = await repository.chunks_by_key(session, self._admission(), keys)
        return [_passage(chunk, place.score) for place in places if (chunk := chunks.get(_key(place))) is not None]

    async def of_document(self, document_id: uuid.UUID) -> list[Passage]:
        """The first passages of a document, in order; none if there is no such document.

        Raises:
            NotFound, Forbidden, Unavailable: as `find`.
        """
        async with self._engine.database.tenant(self._tenant_id) as session:
            chunks = await repository.first_chunks(session, self._admission(), document_id)
        return [_passage(chunk, 0.0) for chunk in chunks]

    async def read(self, document_id: uuid.UUID, version: int, start: int, end: int) -> Sequence[StoredText]:
        """See `contracts.Texts`."""
        start = max(0, start)
        end = min(end, start + MOST_READ)
        async with self._engine.database.tenant(self._tenant_id) as session:
            chunks = await repository.chunks_in_range(session, self._admission(), document_id, version, start, end)
        pieces: list[StoredText] = []
        for chunk in chunks:
            first = max(start, chunk.start)
            text = chunk.text[first - chunk.start : max(0, end - chunk.start)]
            if pieces and pieces[-1].end == first:
                pieces[-1] = StoredText(pieces[-1].start, pieces[-1].text + text)
            else:
                pieces.append(StoredText(first, text))
        return pieces

    def _admission(self) -> Admission:
        return Admission(self._engine.directory, self._principal(), self._project_id, Scope.SEARCH)


def _key(place: Place) -> tuple[uuid.UUID, int, int]:
    return place.document_id, place.version, place.chunk_index


def _passage(chunk: PlacedChunk, score: float) -> Passage:
    return Passage(
        document_id=chunk.document_id,
        document_name=chunk.document_name,
        version=chunk.version,
        sha256=chunk.sha256,
        chunk_index=chunk.chunk_index,
        start=chunk.start,
        end=chunk.end,
        text=chunk.text,
        page=chunk.page,
        score=score,
    )
