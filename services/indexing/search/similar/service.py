"""Documents like one document: a search whose query is the document itself.

Its vector is the mean of the vectors of its chunks, which the store has: nothing is embedded. Its words are those that
it begins with, title and headings first. What is found is ranked as in a search, and a document is where its best
passage is.

Bounded, whatever the length of the document: the vectors of `SAMPLED` chunks are read, evenly spread over it, and one
ranking of the usual depth. It takes its turns among the searches of all tenants, and as long as a search may.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Generator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import orjson

from services.indexing.documents import repository as documents
from services.indexing.documents.owner import DocumentOwner
from services.indexing.documents.repository import Passage
from services.indexing.generations import repository as generations
from services.indexing.generations.identity import Current
from services.indexing.search.engine import SearchEngine
from services.indexing.search.errors import SearchTooSlow
from services.indexing.search.highlights import MAX_TEXT
from services.indexing.search.live_hits import MAX_PAGE_BYTES
from services.indexing.search.similar import repository
from services.indexing.search.similar.errors import NotIndexed
from services.indexing.search.similar.repository import Source
from services.indexing.search.similar.schemas import SimilarRequest
from services.indexing.vectors.errors import VectorStoreUnavailable
from services.indexing.vectors.filters import AllOf, DocumentCondition
from services.indexing.vectors.points import MAX_WINDOW, SEARCH_SECONDS, Hit, Vector, VectorQuery, VersionPoints
from shared.auth import Principal, Scope
from shared.deferred_parsing import Unparsed
from shared.errors import Forbidden
from shared.project_access import Admission
from shared.telemetry import span

SAMPLED: Final = 32

_SECONDS: Final = 5.0
_NO_TENANT: Final = uuid.UUID(int=0)
_READ_AT_ONCE: Final = 60


@dataclass(frozen=True, slots=True)
class _Likening:
    """One request."""

    engine: SearchEngine
    tenant_id: uuid.UUID
    admission: Admission
    document_id: uuid.UUID
    request: SimilarRequest


async def similar(
    engine: SearchEngine,
    owner: DocumentOwner,
    principal: Principal,
    *,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    request: Unparsed[SimilarRequest],
) -> bytes:
    """The documents of a project that are most like one of them: `SimilarDocuments` in JSON.

    Raises:
        NotFound, Forbidden: see `ProjectDirectory.require`; there is no such document.
        NotIndexed: nothing of the document is searchable yet.
        TooManySearches, Unavailable: as a search.
        others: see `Unparsed.parsed`.
    """
    tenant_id = principal.tenant_id or _NO_TENANT
    started = time.perf_counter()
    try:
        async with asyncio.timeout(_SECONDS), engine.shares.search(tenant_id):
            async with engine.shares.turn(tenant_id):
                parsed = await request.parsed()
                if principal.tenant_id is None:
                    raise Forbidden("Choose an active tenant first.")
                admission = await engine.directory.admit(
                    engine.database, principal, tenant_id=tenant_id, project_id=project_id, scope=Scope.SEARCH
                )
                likening = _Likening(engine, tenant_id, admission, document_id, parsed)
                source, generation = await _source(likening)
                if source is not None and source.chunks and source.version is not None and generation is not None:
                    found = await _found(likening, await _query(likening, source, source.version, generation))
                    return await engine.shares.compute(tenant_id, _writing(found, started))
            if source is None:
                await owner.require(tenant_id, project_id, document_id)
            raise NotIndexed
    except TimeoutError as error:
        raise SearchTooSlow(retry_after=1) from error


async def _source(likening: _Likening) -> tuple[Source | None, Current | None]:
    async with likening.engine.database.tenant(likening.tenant_id) as session:
        source = await repository.source(session, likening.admission, likening.document_id)
        return source, await generations.current(session, likening.admission.project_id)


async def _query(likening: _Likening, source: Source, version: int, generation: Current) -> VectorQuery:
    request, identity = likening.request, generation.identity
    others = DocumentCondition(field="document_id", ne=likening.document_id)
    points = VersionPoints(likening.document_id, version, generation.number)
    vector = None
    if request.mode != "keyword":
        vector = await _mean(likening, points, source.chunks, identity.dimensions)
    return VectorQuery(
        mode=request.mode,
        vector=vector,
        text=None if request.mode == "semantic" else source.beginning,
        filter=others if request.filter is None else AllOf(all=[request.filter, others]),
        generation=generation.number,
        dimensions=identity.dimensions,
        analyzers=(identity.analyzer,),
        limit=MAX_WINDOW,
    )


async def _mean(likening: _Likening, points: VersionPoints, chunks: int, dimensions: int) -> Vector:
    """Raises VectorStoreUnavailable: the document has no points, until they are made again."""
    store = likening.engine.store.project(likening.tenant_id, likening.admission.project_id)
    async with likening.engine.shares.reading(likening.tenant_id):
        found = await store.vectors(points, sampled(chunks), dimensions=dimensions)
    if not found:
        raise VectorStoreUnavailable("the document has no points")
    vectors = np.stack([found[index] for index in sorted(found)])
    mean = vectors.mean(axis=0)
    usable: Vector = mean if mean.any() else vectors[0]
    return usable


def sampled(chunks: int) -> list[int]:
    """Indexes of at most `SAMPLED` of so many chunks, evenly spread."""
    return sorted({number * chunks // SAMPLED for number in range(SAMPLED)}) if chunks > SAMPLED else [*range(chunks)]


async def _found(likening: _Likening, query: VectorQuery) -> list[tuple[Hit, Passage]]:
    """The best live passage of each document, best first."""
    store = likening.engine.store.project(likening.tenant_id, likening.admission.project_id)
    try:
        with span("search vectors"):
            async with likening.engine.shares.reading(likening.tenant_id), asyncio.timeout(SEARCH_SECONDS):
                hits = await store.search(query)
    except TimeoutError as error:
        raise VectorStoreUnavailable("too slow") from error
    found: dict[uuid.UUID, tuple[Hit, Passage]] = {}
    size = 0
    async for hit, passage in _live(likening, _best_of_each_version(hits)):
        size += len(passage.text) + len(passage.metadata)
        if found and size > MAX_PAGE_BYTES:
            break
        found.setdefault(hit.document_id, (hit, passage))
        if len(found) == likening.request.limit:
            break
    return list(found.values())


def _best_of_each_version(hits: Sequence[Hit]) -> list[Hit]:
    best: dict[tuple[uuid.UUID, int], Hit] = {}
    for hit in hits:
        best.setdefault((hit.document_id, hit.version), hit)
    return list(best.values())


async def _live(likening: _Likening, hits: Sequence[Hit]) -> AsyncIterator[tuple[Hit, Passage]]:
    """Those whose version is live, with their passages, in the same order."""
    # Once even without hits: this checks that the caller is still admitted.
    for start in range(0, len(hits) or 1, _READ_AT_ONCE):
        batch = hits[start : start + _READ_AT_ONCE]
        keys = [(hit.document_id, hit.version, hit.chunk_index) for hit in batch]
        async with likening.engine.database.tenant(likening.tenant_id) as session:
            passages = await documents.live_passages(session, likening.admission, keys)
        known = {(passage.document_id, passage.version, passage.chunk_index): passage for passage in passages}
        for hit in batch:
            if (passage := known.get((hit.document_id, hit.version, hit.chunk_index))) is not None:
                yield hit, passage


def _writing(found: Sequence[tuple[Hit, Passage]], started: float) -> Generator[None, None, bytes]:
    """The body of the response. `yield`s now and then."""
    items = []
    for hit, passage in found:
        items.append(
            {
                "document_id": str(passage.document_id),
                "document_name": passage.document_name,
                "document_title": passage.document_title,
                "version": passage.version,
                "score": hit.score,
                "chunk_index": passage.chunk_index,
                "text": passage.text[:MAX_TEXT],
                "page": passage.page,
                "location": None if passage.location is None else orjson.Fragment(passage.location),
                "metadata": orjson.Fragment(passage.metadata),
            }
        )
        yield
    return orjson.dumps({"items": items, "took_ms": round((time.perf_counter() - started) * 1000, 2)})
