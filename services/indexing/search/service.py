"""Search: the vector store ranks, Postgres decides what may be seen.

A hit counts when its version is the live one of a document that is not deleted, in the tenant's own transaction; points
of other versions that the store still holds are dropped, and the ranking is read further until the page is full. So a
switch of versions is seen as a whole or not at all, and a deleted document never. A search reads one generation of
points from beginning to end, the one that was active when it began: one that is replaced meanwhile keeps its points.

A search may wait for its turns for seconds. Its permission is checked before any work is done for it, and again by each
statement that reads what it shows: a project deleted meanwhile is 404.

No transaction is open while the store or the embedder works: a slow one must not use up the connections.

Everything is bounded, in size by the constants of `highlights`, `best_sentences`, `facets`, `filters`, `ranking` and
`analysis`, in time by `_SECONDS`, after which all work of a search stops, and in its use of shared resources by
`shares`.
"""

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.indexing.documents.repository import Passage
from services.indexing.embedders.installed import Embedders
from services.indexing.generations import repository as generations
from services.indexing.generations.identity import Current, Identity
from services.indexing.search import best_sentences, cursors, facets, query_syntax
from services.indexing.search.errors import RerankUnsupported, SearchTooSlow
from services.indexing.search.fair_share import SearchShares
from services.indexing.search.highlights import Highlighter
from services.indexing.search.live_hits import Ranking
from services.indexing.search.query_syntax import ParsedQuery
from services.indexing.search.reranking import order
from services.indexing.search.reranking.endpoint import EndpointReranker
from services.indexing.search.responses import Found, writing
from services.indexing.search.schemas import SearchRequest
from services.indexing.vectors.points import Hit, VectorQuery
from services.indexing.vectors.store import VectorStore
from shared.auth import Principal, Scope
from shared.deferred_parsing import Unparsed
from shared.errors import Forbidden
from shared.project_access import Admission, ProjectDirectory
from shared.telemetry import span
from shared.tenancy import Database

_SECONDS: Final = 5.0
# A caller without a tenant is refused, but errors of the request come first: parsing it takes a turn as well.
_NO_TENANT: Final = uuid.UUID(int=0)


@dataclass(frozen=True, slots=True)
class SearchEngine:
    """What a search needs."""

    database: Database
    directory: ProjectDirectory
    embedders: Embedders
    store: VectorStore
    shares: SearchShares
    reranker: EndpointReranker | None = None


async def search(
    engine: SearchEngine, principal: Principal, *, project_id: uuid.UUID, request: Unparsed[SearchRequest]
) -> bytes:
    """The best passages of a project for a query: a `SearchResponse` in JSON.

    Raises:
        NotFound, Forbidden: see `ProjectDirectory.require`.
        RerankUnsupported, InvalidCursor: the request asks for something that does not exist.
        TooManySearches: the tenant has too many under way.
        Unavailable: the vector store or another service cannot respond now, or not in time.
        others: see `Unparsed.parsed`.
    """
    tenant_id = principal.tenant_id or _NO_TENANT
    try:
        async with asyncio.timeout(_SECONDS), engine.shares.search(tenant_id):
            return await _answer(engine, principal, tenant_id, project_id, request)
    except TimeoutError as error:
        raise SearchTooSlow(retry_after=1) from error


async def hits(
    engine: SearchEngine,
    principal: Principal,
    *,
    project_id: uuid.UUID,
    request: SearchRequest,
    has_operators: bool = True,
) -> Sequence[tuple[Hit, Passage]]:
    """The best passages of a project for a query, best first, for work on behalf of the caller; facets are not counted.

    `has_operators`: whether quotation marks and minus signs are operators (`query_syntax`), as they are not in a
    question.

    Raises:
        NotFound, Forbidden, TooManySearches, Unavailable: as `search`.
    """
    tenant_id = principal.tenant_id or _NO_TENANT
    try:
        async with asyncio.timeout(_SECONDS), engine.shares.search(tenant_id):
            async with engine.shares.turn(tenant_id):
                admission = await engine.directory.admit(
                    engine.database, principal, tenant_id=tenant_id, project_id=project_id, scope=Scope.SEARCH
                )
                generation = await _generation(engine, tenant_id, project_id)
            parsed = query_syntax.parsed(request.query) if has_operators else ParsedQuery(request.query)
            query = await _query(engine, tenant_id, request, parsed.text, generation)
            async with engine.shares.turn(tenant_id):
                ranking = Ranking(engine.database, engine.store, engine.shares, tenant_id, admission, query, parsed)
                return (await ranking.page(frozenset(), request.limit)).hits
    except TimeoutError as error:
        raise SearchTooSlow(retry_after=1) from error


async def _answer(
    engine: SearchEngine,
    principal: Principal,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    unparsed: Unparsed[SearchRequest],
) -> bytes:
    started = time.perf_counter()
    async with engine.shares.turn(tenant_id):
        request = await unparsed.parsed()
        if request.rerank and engine.reranker is None:
            raise RerankUnsupported
        if principal.tenant_id is None:
            raise Forbidden("Choose an active tenant first.")
        admission = await engine.directory.admit(
            engine.database, principal, tenant_id=tenant_id, project_id=project_id, scope=Scope.SEARCH
        )
        generation = await _generation(engine, tenant_id, project_id)
    # The model may be remote: another search of the tenant has the turn meanwhile.
    parsed = query_syntax.parsed(request.query)
    query = await _query(engine, tenant_id, request, parsed.text, generation)
    ranking = Ranking(engine.database, engine.store, engine.shares, tenant_id, admission, query, parsed)
    scores = None
    if request.rerank and engine.reranker is not None:
        scores = await order.scores(engine.shares, engine.reranker, ranking, parsed.text, tenant_id=tenant_id)
    async with engine.shares.turn(tenant_id):
        found = await _found(engine, tenant_id, admission, request, ranking, scores, started)
        highlighter = Highlighter(parsed.text, generation.identity.analyzer)
        if request.highlight == "keyword" or query.vector is None:
            return await engine.shares.compute(tenant_id, writing(found, highlighter))
    embedder = engine.embedders.named(generation.identity.embedder)
    texts = {hit.point_id: passage.text for hit, passage in found.hits}
    sentences = await best_sentences.of_page(
        engine.shares, embedder, query.vector, texts, highlighter, tenant_id=tenant_id
    )
    async with engine.shares.turn(tenant_id):
        found = replace(found, hits=await ranking.still_live(found.hits))
        return await engine.shares.compute(tenant_id, writing(found, highlighter, sentences))


async def _found(
    engine: SearchEngine,
    tenant_id: uuid.UUID,
    admission: Admission,
    request: SearchRequest,
    ranking: Ranking,
    scores: order.Scores | None,
    started: float,
) -> Found:
    identity = cursors.fingerprint(
        str(admission.project_id),
        request.query,
        request.mode,
        request.filter and request.filter.model_dump(mode="json"),
        *(["rerank"] if request.rerank else []),
    )
    shown = cursors.decode(request.cursor, identity)
    if request.facets:
        await ranking.read_all()
    if scores is None:
        page = await ranking.page(shown, request.limit)
    else:
        page = await order.page(ranking, scores, shown, request.limit)
    counted = facets.Facets({}, False)
    if request.facets:
        documents = await ranking.documents(described=any(field != facets.CONTENT_TYPE for field in request.facets))
        counted = await engine.shares.compute(tenant_id, facets.counting(documents, request.facets))
    after = shown.union(cursors.mark(hit) for hit, _ in page.hits)
    next_cursor = cursors.encode(after, identity) if page.more else None
    return Found(page.hits, counted, next_cursor, started, reranked=scores is not None)


async def _generation(engine: SearchEngine, tenant_id: uuid.UUID, project_id: uuid.UUID) -> Current:
    """What the search reads. Without one, nothing was indexed, or by an older version of Quarry beside this one."""
    async with engine.database.tenant(tenant_id) as session:
        found = await generations.current(session, project_id)
    return found or Current(1, Identity.of(engine.embedders.target))


async def _query(
    engine: SearchEngine, tenant_id: uuid.UUID, request: SearchRequest, text: str, generation: Current
) -> VectorQuery:
    vector = None
    if request.mode != "keyword":
        with span("embed query"):
            embedder = engine.embedders.named(generation.identity.embedder)
            vector = await embedder.embed_query(text, caller=tenant_id)
    return VectorQuery(
        mode=request.mode,
        vector=vector,
        text=None if request.mode == "semantic" else text,
        filter=request.filter,
        generation=generation.number,
        dimensions=generation.identity.dimensions,
        analyzers=(generation.identity.analyzer,),
    )
