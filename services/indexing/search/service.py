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
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from services.indexing.documents.repository import Passage
from services.indexing.embedders import Vectors
from services.indexing.generations import repository as generations
from services.indexing.generations.identity import Current, Identity
from services.indexing.search import cursors, grouping, optional_stages, query_syntax
from services.indexing.search.engine import SearchEngine
from services.indexing.search.errors import RerankUnsupported, SearchTooSlow
from services.indexing.search.explanations import Explained
from services.indexing.search.highlights import Highlighter
from services.indexing.search.live_hits import Ranking
from services.indexing.search.progress import SECONDS, Progress
from services.indexing.search.query_syntax import ParsedQuery
from services.indexing.search.reranking import order
from services.indexing.search.responses import Found, writing
from services.indexing.search.schemas import SearchRequest, UploadedVersion
from services.indexing.vectors.points import Hit, VectorQuery
from shared.auth import Principal, Scope
from shared.deferred_parsing import Unparsed
from shared.errors import Forbidden
from shared.project_access import Admission

# A caller without a tenant is refused, but errors of the request come first: parsing it takes a turn as well.
_NO_TENANT: Final = uuid.UUID(int=0)


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
            progress = Progress(limit)
            answer = await _answer(engine, principal, tenant_id, project_id, request, progress)
            engine.metrics.answered(progress)
            return answer
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
                admission, generation = await _admitted(engine, principal, tenant_id, project_id)
            parsed = query_syntax.parsed(request.query) if has_operators else ParsedQuery(request.query)
            vector = await optional_stages.vector(engine, tenant_id, request, parsed.text, generation)
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
            admission, generation = await _admitted(engine, principal, tenant_id, project_id)
    if request.read_after is not None:
        await _await_upload(engine, tenant_id, project_id, request.read_after, progress)
        async with engine.shares.turn(tenant_id):
            generation = await _generation(engine, tenant_id, project_id)
    # The model may be remote: another search of the tenant has the turn meanwhile.
    parsed = query_syntax.parsed(request.query)
    vector = await optional_stages.vector_in_time(engine, tenant_id, request, parsed.text, generation, progress)
    query = _query(request, parsed.text, generation, vector)
    ranking = Ranking(engine.database, engine.store, engine.shares, tenant_id, admission, query, parsed, progress)
    scores = await optional_stages.rerank_scores(engine, tenant_id, request, ranking, parsed.text, progress)
    explained = Explained(parsed, query.mode, generation, progress) if request.explain else None
    highlighter = Highlighter(parsed.text, generation.identity.analyzer)
    async with engine.shares.turn(tenant_id):
        found = await _found(engine, tenant_id, admission, request, ranking, scores, progress, explained)
        if request.highlight == "keyword" or vector is None:
            return await engine.shares.compute(tenant_id, writing(found, highlighter))
    embedder = engine.embedders.named(generation.identity.embedder)
    sentences = await optional_stages.sentences(engine, tenant_id, embedder, vector, found.page, highlighter, progress)
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
    counted = await optional_stages.counted_facets(engine, tenant_id, request, ranking, progress)
    return Found(
        page, counted, cursors.encode(after, identity) if page.more else None, progress, explained, scores is not None
    )


async def _admitted(
    engine: SearchEngine, principal: Principal, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> tuple[Admission, Current]:
    """The permission of a search, and the generation that it reads.

    Raises:
        NotFound, Forbidden, Unavailable: as `ProjectDirectory.admit`.
    """
    admission, found = await engine.directory.admit_and_read(
        engine.database,
        principal,
        tenant_id=tenant_id,
        project_id=project_id,
        scope=Scope.SEARCH,
        read=lambda session: generations.current(session, project_id),
    )
    return admission, found or _of_earlier_versions(engine)


async def _generation(engine: SearchEngine, tenant_id: uuid.UUID, project_id: uuid.UUID) -> Current:
    """The one that is read by a search that begins now."""
    async with engine.database.tenant(tenant_id) as session:
        found = await generations.current(session, project_id)
    return found or _of_earlier_versions(engine)


def _of_earlier_versions(engine: SearchEngine) -> Current:
    """Without a generation, nothing was indexed, or by an older version of Quarry beside this one."""
    return Current(1, Identity.of(engine.embedders.target))


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
