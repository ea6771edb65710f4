"""The stages that a search can be answered without. Each ends in time, and says in `Progress.missing` what is left out.

Their work is bounded where it is done; here is only when it is given up.
"""

import asyncio
import uuid
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain

from services.indexing.analysis.analyzer import Span
from services.indexing.embedders import Embedder, Vectors
from services.indexing.embedders.errors import EmbedderUnavailable
from services.indexing.generations.identity import Current
from services.indexing.search import best_sentences, facets
from services.indexing.search.engine import SearchEngine
from services.indexing.search.facets import Facets
from services.indexing.search.highlights import Highlighter
from services.indexing.search.live_hits import Page, Ranking
from services.indexing.search.progress import Progress
from services.indexing.search.reranking import order
from services.indexing.search.schemas import SearchRequest
from services.indexing.vectors.points import Vector
from shared.telemetry import span


async def vector(
    engine: SearchEngine, tenant_id: uuid.UUID, request: SearchRequest, text: str, generation: Current
) -> Vectors | None:
    if request.mode == "keyword":
        return None
    with span("embed query"):
        embedder = engine.embedders.named(generation.identity.embedder)
        return await embedder.embed_query(text, caller=tenant_id)


async def vector_in_time(
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
                return await vector(engine, tenant_id, request, text, generation)
        except (TimeoutError, EmbedderUnavailable):
            if request.mode != "hybrid":
                raise
            progress.missing.append("meaning_skipped")
            return None


async def rerank_scores(
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


async def sentences(
    engine: SearchEngine,
    tenant_id: uuid.UUID,
    embedder: Embedder,
    query: Vector,
    page: Page,
    highlighter: Highlighter,
    progress: Progress,
) -> Mapping[uuid.UUID, Span]:
    """The sentences to be marked in passages without any of the query's words; none when there is no time for it."""
    passages = [*page.hits, *chain.from_iterable(page.others.values())]
    texts = {hit.point_id: passage.text for hit, passage in passages}
    with progress.stage("sentences"), suppress(TimeoutError):
        async with asyncio.timeout_at(progress.optional_ends):
            return await best_sentences.of_page(engine.shares, embedder, query, texts, highlighter, tenant_id=tenant_id)
    return {}


async def counted_facets(
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
