"""Search: the vector store ranks, Postgres decides what may be seen.

A hit counts when its version is the live one of a document that is not deleted, in the tenant's own transaction; points
of other versions that the store still holds are dropped, and the ranking is read further until the page is full. So a
switch of versions is seen as a whole or not at all, and a deleted document never. A search reads one generation of
points from beginning to end, the one that was active when it began: one that is replaced meanwhile keeps its points.

A search may wait for its turns for seconds. Its permission is checked before any work is done for it, and again by each
statement that reads what it shows: a project deleted meanwhile is 404.

No transaction is open while the store or the embedder works: a slow one must not use up the connections.

Everything is bounded, in size by the constants of `highlights`, `best_sentences`, `facets`, `filters`, `ranking` and
`analysis`, in time by `progress.SECONDS` or by what the client gives, after which all work of a search stops, and in
its use of shared resources by `shares`.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from services.indexing.analysis.analyzer import Span
from services.indexing.documents.repository import Passage
from services.indexing.embedders import Embedder, Vectors
from services.indexing.embedders.errors import EmbedderUnavailable
from services.indexing.embedders.installed import Embedders
from services.indexing.generations import repository as generations
from services.indexing.generations.identity import Current, Identity
from services.indexing.search import best_sentences, cursors, facets, grouping, query_syntax
from services.indexing.search.errors import RerankUnsupported, SearchTooSlow
from services.indexing.search.explanations import Explained
from services.indexing.search.facets import Facets
from services.indexing.search.fair_share import SearchShares
from services.indexing.search.highlights import Highlighter
from services.indexing.search.live_hits import Page, Ranking
from services.indexing.search.progress import SECONDS, Progress
from services.indexing.search.query_syntax import ParsedQuery
from services.indexing.search.read_after import Waiting
from services.indexing.search.reranking import order
from services.indexing.search.reranking.endpoint import EndpointReranker
from services.indexing.search.responses import Found, writing
from services.indexing.search.schemas import SearchRequest, UploadedVersion
from services.indexing.vectors.points import Hit, Vector, VectorQuery
from services.indexing.vectors.store import VectorStore
from shared.auth import Principal, Scope
from shared.deferred_parsing import Unparsed
from shared.errors import Forbidden
from shared.project_access import Admission, ProjectDirectory
from shared.telemetry import span
from shared.tenancy import Database

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
    waiting: Waiting
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
        async with asyncio.timeout(SECONDS) as limit, engine.shares.search(tenant_id):
            return await _answer(engine, principal, tenant_id, project_id, request, Progress(limit))
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
        async with asyncio.timeout(SECONDS) as limit, engine.shares.search(tenant_id):
            async with engine.shares.turn(tenant_id):
                admission = await engine.directory.admit(
                    engine.database, principal, tenant_id=tenant_id, project_id=project_id, scope=Scope.SEARCH
                )
                generation = await _generation(engine, tenant_id, project_id)
            parsed = query_syntax.parsed(request.query) if has_operators else ParsedQuery(request.query)
            vector = await _vector(engine, tenant_id, request, parsed.text, generation)
            query = _query(request, parsed.text, generation, vector)
            async with engine.shares.turn(tenant_id):
                ranking = Ranking(
                    engine.database, engine.store, engine.shares, tenant_id, admission, query, parsed, Progress(limit)
                )
                return (await ranking.page(frozenset(), request.limit)).hits
    except TimeoutError as error:
        raise SearchTooSlow(retry_after=1) from error


async def _answer(
    engine: SearchEngine,
    principal: Principal,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    unparsed: Unparsed[SearchRequest],
    progress: Progress,
) -> bytes:
    with progress.stage("admission"):
        async with engine.shares.turn(tenant_id):
            request = await unparsed.parsed()
            progress.give(request.timeout_ms)
            if request.rerank and engine.reranker is None:
                raise RerankUnsupported
            if principal.tenant_id is None:
                raise Forbidden("Choose an active tenant first.")
            admission = await engine.directory.admit(
                engine.database, principal, tenant_id=tenant_id, project_id=project_id, scope=Scope.SEARCH
            )
            generation = await _generation(engine, tenant_id, project_id)
    if request.read_after is not None:
        await _await_upload(engine, tenant_id, project_id, request.read_after, progress)
        async with engine.shares.turn(tenant_id):
            generation = await _generation(engine, tenant_id, project_id)
    # The model may be remote: another search of the tenant has the turn meanwhile.
    parsed = query_syntax.parsed(request.query)
    vector = await _vector_in_time(engine, tenant_id, request, parsed.text, generation, progress)
    query = _query(request, parsed.text, generation, vector)
    ranking = Ranking(engine.database, engine.store, engine.shares, tenant_id, admission, query, parsed, progress)
    scores = await _scores(engine, tenant_id, request, ranking, parsed.text, progress)
    explained = Explained(parsed, query.mode, generation, progress) if request.explain else None
    highlighter = Highlighter(parsed.text, generation.identity.analyzer)
    async with engine.shares.turn(tenant_id):
        found = await _found(engine, tenant_id, admission, request, ranking, scores, progress, explained)
        if request.highlight == "keyword" or vector is None:
            return await engine.shares.compute(tenant_id, writing(found, highlighter))
    embedder = engine.embedders.named(generation.identity.embedder)
    sentences = await _sentences(engine, tenant_id, embedder, vector, found.page, highlighter, progress)
    async with engine.shares.turn(tenant_id):
        found = replace(found, page=await ranking.still_live(found.page))
        return await engine.shares.compute(tenant_id, writing(found, highlighter, sentences))


async def _await_upload(
    engine: SearchEngine,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    upload: uuid.UUID | UploadedVersion,
    progress: Progress,
) -> None:
    document_id, version = (upload, None) if isinstance(upload, uuid.UUID) else (upload.document_id, upload.version)
    with progress.stage("waiting"), progress.waiting() as until:
        state = await engine.waiting.until_searchable(tenant_id, project_id, document_id, version, until=until)
    if state != "searchable":
        progress.missing.append("upload_failed" if state == "failed" else "upload_awaited")


async def _scores(
    engine: SearchEngine,
    tenant_id: uuid.UUID,
    request: SearchRequest,
    ranking: Ranking,
    text: str,
    progress: Progress,
) -> order.Scores | None:
    """None where no reranker is asked, or it does not respond in time."""
    if not request.rerank or engine.reranker is None:
        return None
    scores = None
    with progress.stage("reranking"), suppress(TimeoutError):
        async with asyncio.timeout_at(progress.optional_ends):
            scores = await order.scores(engine.shares, engine.reranker, ranking, text, tenant_id=tenant_id)
    if scores is None:
        progress.missing.append("rerank_skipped")
    return scores


async def _sentences(
    engine: SearchEngine,
    tenant_id: uuid.UUID,
    embedder: Embedder,
    vector: Vector,
    page: Page,
    highlighter: Highlighter,
    progress: Progress,
) -> Mapping[uuid.UUID, Span]:
    """The sentences to be marked in passages without any of the query's words; none when there is no time for it."""
    passages = [*page.hits, *chain.from_iterable(page.others.values())]
    texts = {hit.point_id: passage.text for hit, passage in passages}
    with progress.stage("sentences"), suppress(TimeoutError):
        async with asyncio.timeout_at(progress.optional_ends):
            return await best_sentences.of_page(
                engine.shares, embedder, vector, texts, highlighter, tenant_id=tenant_id
            )
    return {}


async def _found(
    engine: SearchEngine,
    tenant_id: uuid.UUID,
    admission: Admission,
    request: SearchRequest,
    ranking: Ranking,
    scores: order.Scores | None,
    progress: Progress,
    explained: Explained | None,
) -> Found:
    identity = cursors.fingerprint(
        str(admission.project_id),
        request.query,
        request.mode,
        request.filter and request.filter.model_dump(mode="json"),
        *(["rerank"] if request.rerank else []),
        *([request.group_by] if request.group_by else []),
    )
    shown = cursors.decode(request.cursor, identity)
    if request.facets:
        await ranking.read_all()
    if request.group_by:
        page = await grouping.page_of_documents(ranking, shown, request.limit, request.group_size, scores)
        after = shown.union(cursors.document_mark(hit.document_id) for hit, _ in page.hits)
    else:
        page = await order.page(ranking, scores, shown, request.limit)
        after = shown.union(cursors.mark(hit) for hit, _ in page.hits)
    counted = await _facets(engine, tenant_id, request, ranking, progress)
    return Found(
        page, counted, cursors.encode(after, identity) if page.more else None, progress, explained, scores is not None
    )


async def _facets(
    engine: SearchEngine, tenant_id: uuid.UUID, request: SearchRequest, ranking: Ranking, progress: Progress
) -> Facets:
    if not request.facets:
        return Facets({})
    try:
        with progress.stage("facets"):
            async with asyncio.timeout_at(progress.facets_end):
                described = any(field != facets.CONTENT_TYPE for field in request.facets)
                documents = await ranking.documents(described=described)
                counted = await engine.shares.compute(tenant_id, facets.counting(documents, request.facets))
    except TimeoutError:
        progress.missing.append("facets_skipped")
        return Facets({field: [] for field in request.facets}, ("all",))
    return Facets(counted.counts, ("passages", *counted.omitted)) if ranking.is_cut else counted


async def _generation(engine: SearchEngine, tenant_id: uuid.UUID, project_id: uuid.UUID) -> Current:
    """What the search reads. Without one, nothing was indexed, or by an older version of Quarry beside this one."""
    async with engine.database.tenant(tenant_id) as session:
        found = await generations.current(session, project_id)
    return found or Current(1, Identity.of(engine.embedders.target))


async def _vector_in_time(
    engine: SearchEngine,
    tenant_id: uuid.UUID,
    request: SearchRequest,
    text: str,
    generation: Current,
    progress: Progress,
) -> Vectors | None:
    """None where a search needs no vector, or can do without one that is not to be had in time."""
    with progress.stage("embedding"):
        try:
            async with asyncio.timeout_at(progress.optional_ends if request.mode == "hybrid" else None):
                return await _vector(engine, tenant_id, request, text, generation)
        except (TimeoutError, EmbedderUnavailable):
            if request.mode != "hybrid":
                raise
            progress.missing.append("meaning_skipped")
            return None


async def _vector(
    engine: SearchEngine, tenant_id: uuid.UUID, request: SearchRequest, text: str, generation: Current
) -> Vectors | None:
    if request.mode == "keyword":
        return None
    with span("embed query"):
        embedder = engine.embedders.named(generation.identity.embedder)
        return await embedder.embed_query(text, caller=tenant_id)


def _query(request: SearchRequest, text: str, generation: Current, vector: Vectors | None) -> VectorQuery:
    return VectorQuery(
        mode="keyword" if vector is None else request.mode,
        vector=vector,
        text=None if request.mode == "semantic" else text,
        filter=request.filter,
        generation=generation.number,
        dimensions=generation.identity.dimensions,
        analyzers=(generation.identity.analyzer,),
        explain=request.explain,
    )
