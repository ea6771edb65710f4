"""Search: the vector store ranks, Postgres decides what may be seen.

A hit counts when its version is the live one of a document that is not deleted, in the tenant's own transaction; what
the store still holds of other versions falls away, and the ranking is read further until the page is full. So a switch
of versions is seen as a whole or not at all, and a deleted document never.

No transaction is open while the store or the embedder works: a slow one must not use up the connections.
"""

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.indexing.documents import repository as documents
from services.indexing.documents.repository import Passage
from services.indexing.embedders import Embedder
from services.indexing.search import cursors, facets, highlights
from services.indexing.search.errors import RerankUnsupported
from services.indexing.search.schemas import FacetValue, Highlight, SearchItem, SearchRequest, SearchResponse
from services.indexing.vectors.errors import VectorStoreUnavailable
from services.indexing.vectors.points import MAX_WINDOW, Hit, VectorQuery
from services.indexing.vectors.store import ProjectVectors, VectorStore
from shared.access import ProjectDirectory
from shared.auth import Principal, Scope
from shared.errors import Forbidden
from shared.telemetry import span
from shared.tenancy import Database

# Hits asked for beyond the page, so that a few stale ones do not cost a second round.
_SLACK: Final = 10
_FURTHER: Final = 200
_SECONDS: Final = 2.5


@dataclass(frozen=True, slots=True)
class SearchEngine:
    """What a search works with."""

    database: Database
    directory: ProjectDirectory
    embedder: Embedder
    store: VectorStore


@dataclass(frozen=True, slots=True)
class _Page:
    hits: list[tuple[Hit, Passage]]
    next_offset: int | None


async def search(
    engine: SearchEngine, principal: Principal, *, project_id: uuid.UUID, request: SearchRequest
) -> SearchResponse:
    """The best passages of a project for a query.

    Raises:
        NotFound, Forbidden: see `ProjectDirectory.require`.
        RerankUnsupported, InvalidCursor, SearchWindowExceeded: the request asks for what there is not.
        Unavailable: the vector store or a neighbour cannot answer now.
    """
    started = time.perf_counter()
    if request.rerank:
        raise RerankUnsupported
    tenant_id = await _admit(engine, principal, project_id)
    identity = cursors.fingerprint(
        str(project_id), request.query, request.mode, request.filter and request.filter.model_dump(mode="json")
    )
    offset = cursors.decode(request.cursor, identity)
    query = await _query(engine, request)
    ranking = _Ranking(engine, tenant_id, project_id, query)
    page = await ranking.page(offset, request.limit)
    counts = await ranking.facets(request.facets) if request.facets else {}
    return SearchResponse(
        items=[_item(hit, passage, request.query) for hit, passage in page.hits],
        facets=counts,
        next_cursor=None if page.next_offset is None else cursors.encode(page.next_offset, identity),
        took_ms=round((time.perf_counter() - started) * 1000, 2),
    )


async def _admit(engine: SearchEngine, principal: Principal, project_id: uuid.UUID) -> uuid.UUID:
    if principal.tenant_id is None:
        raise Forbidden("Choose an active tenant first.")
    async with engine.database.tenant(principal.tenant_id) as session:
        await engine.directory.require(session, principal, project_id=project_id, scope=Scope.SEARCH)
    return principal.tenant_id


async def _query(engine: SearchEngine, request: SearchRequest) -> VectorQuery:
    vector = None
    if request.mode != "keyword":
        with span("embed query"):
            vector = await engine.embedder.embed_query(request.query)
    text = None if request.mode == "semantic" else request.query
    return VectorQuery(mode=request.mode, vector=vector, text=text, filter=request.filter)


class _Ranking:
    """The ranked hits of one query, as far as they are live."""

    def __init__(self, engine: SearchEngine, tenant_id: uuid.UUID, project_id: uuid.UUID, query: VectorQuery) -> None:
        self._database = engine.database
        self._vectors: ProjectVectors = engine.store.project(tenant_id, project_id)
        self._tenant_id = tenant_id
        self._project_id = project_id
        self._query = query

    async def page(self, offset: int, limit: int) -> _Page:
        found: list[tuple[Hit, Passage]] = []
        position, depth = offset, limit + 1 + _SLACK
        while position < MAX_WINDOW:
            depth = min(depth, MAX_WINDOW - position)
            hits = await self._hits(position, depth)
            live = await self._live(hits)
            for place, hit in enumerate(hits, start=position):
                if (passage := live.get((hit.document_id, hit.version, hit.chunk_index))) is None:
                    continue
                if len(found) == limit:
                    return _Page(found, place)
                found.append((hit, passage))
            if len(hits) < depth:
                break
            position, depth = position + depth, _FURTHER
        return _Page(found, None)

    async def facets(self, fields: Sequence[str]) -> dict[str, list[FacetValue]]:
        hits = await self._hits(0, MAX_WINDOW)
        versions = {(hit.document_id, hit.version) for hit in hits}
        async with self._database.tenant(self._tenant_id) as session:
            known = await documents.live_versions(session, {document_id for document_id, _ in versions})
        live = [row for row in known if (row.document_id, row.live_version) in versions]
        return facets.count(live, fields)

    async def _hits(self, offset: int, limit: int) -> list[Hit]:
        query = VectorQuery(
            mode=self._query.mode,
            vector=self._query.vector,
            text=self._query.text,
            filter=self._query.filter,
            limit=limit,
            offset=offset,
        )
        try:
            with span("search vectors"):
                async with asyncio.timeout(_SECONDS):
                    return await self._vectors.search(query)
        except TimeoutError as error:
            raise VectorStoreUnavailable("too slow") from error

    async def _live(self, hits: Sequence[Hit]) -> dict[tuple[uuid.UUID, int, int], Passage]:
        if not hits:
            return {}
        keys = [(hit.document_id, hit.version, hit.chunk_index) for hit in hits]
        async with self._database.tenant(self._tenant_id) as session:
            passages = await documents.live_passages(session, self._project_id, keys)
        return {(passage.document_id, passage.version, passage.chunk_index): passage for passage in passages}


def _item(hit: Hit, passage: Passage, query: str) -> SearchItem:
    return SearchItem(
        document_id=passage.document_id,
        document_name=passage.document_name,
        version=passage.version,
        chunk_index=passage.chunk_index,
        score=hit.score,
        text=passage.text,
        highlights=[Highlight(start=start, end=end) for start, end in highlights.spans(passage.text, query)],
        page=passage.page,
        metadata=passage.metadata,
    )
