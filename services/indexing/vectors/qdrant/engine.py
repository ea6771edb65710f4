"""A Qdrant server as the engine, over gRPC.

Guarantees what every engine does (engine.py). It starts whether or not the server is there, and creates the collection
when it first finds none. Term statistics are those of the corpus that a search names, which needs Qdrant 1.19: an older
server would ignore that, so it is not used at all.
Does not guarantee: exact neighbours (the server builds graphs); equal keyword scores where the collection has several
shards, each of which counts terms for itself; that writes before a `flush` survive a power cut, since the server writes
to disk on its own schedule; that a write given up on is not done later, by a server that was frozen.
Fails by: VectorStoreUnavailable, whatever the client raises. A collection that was there and is gone is not created
again while the process lives: an error is better than results from an empty store. A restart creates it again.
"""

import asyncio
import contextlib
import math
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, cast
from urllib.parse import urlsplit
from uuid import UUID

from grpc import RpcError, StatusCode
from grpc.aio import AioRpcError
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException

from services.indexing.analysis.analyzer import Terms
from services.indexing.vectors import keyword_terms
from services.indexing.vectors.engine import Condition, EnginePoint, EngineRecord, EngineSearch, EngineWords, Payload
from services.indexing.vectors.errors import VectorStoreUnavailable
from services.indexing.vectors.points import MAX_WINDOW
from services.indexing.vectors.qdrant import collection
from services.indexing.vectors.qdrant.collection import DENSE, KEYWORDS
from services.indexing.vectors.qdrant.filter_translation import filter_of
from services.indexing.vectors.ranking import Ranked, fuse, parts_of, ranked
from shared import telemetry
from shared.resilience import Backoff

_log = telemetry.get_logger(__name__)

_IDENTITY: Final = ["tenant_id", "project_id", "document_id", "version", "generation", "chunk_index"]
_BATCH: Final = 64
_WRITES_UNDER_WAY: Final = 8
_PING_SECONDS: Final = 2.0
_RECONNECT_SECONDS: Final = 2.0
_PING_RECONNECT_SECONDS: Final = 0.5
_FAILURES: Final = (RpcError, QdrantException, OSError, ValueError)
"""ValueError: raised by the client for a reply it does not understand."""
_CHANNEL: Final = {
    # Without these a channel waits up to two minutes before it tries again, and half a minute with an old address.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 500,
    "grpc.max_reconnect_backoff_ms": 2_000,
    "grpc.dns_min_time_between_resolutions_ms": 1_000,
    # Detects a server that vanished silently.
    "grpc.keepalive_time_ms": 20_000,
    "grpc.keepalive_timeout_ms": 5_000,
}


class QdrantEngine:
    def __init__(
        self,
        url: str,
        *,
        grpc_port: int,
        api_key: str,
        collection: str,
        dimensions: int,
        call_timeout: float,
    ) -> None:
        address = urlsplit(url)
        self._host, self._tls = address.hostname, address.scheme == "https"
        self._grpc_port = grpc_port
        self._api_key = api_key
        self._collection = collection
        self._dimensions = dimensions
        self._call_timeout = call_timeout
        self._client: AsyncQdrantClient | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._prepared = asyncio.Event()
        self._gone = asyncio.Event()
        self._away = "the Qdrant server was not reached yet"
        self._writing = asyncio.Semaphore(_WRITES_UNDER_WAY)

    async def start(self) -> None:
        """Returns at once; calls wait for the server, for a short time."""
        if self._preparing is not None:
            raise RuntimeError("already started")
        with warnings.catch_warnings():
            # Ignored: that the key is sent without TLS, as it is between containers of one private network.
            warnings.filterwarnings("ignore", "Api key is used with an insecure connection")
            self._client = AsyncQdrantClient(
                host=self._host,
                grpc_port=self._grpc_port,
                https=self._tls,
                prefer_grpc=True,
                api_key=self._api_key,
                timeout=math.ceil(self._call_timeout),
                grpc_options=dict(_CHANNEL),
                check_compatibility=False,  # asks over REST, in a thread of its own; `check_version` is stricter
            )
        self._preparing = asyncio.create_task(self._prepare(self._client))

    async def stop(self) -> None:
        """Safe to call twice."""
        preparing, self._preparing = self._preparing, None
        if preparing is not None:
            preparing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await preparing
        client, self._client = self._client, None
        self._prepared.clear()
        self._away = "the vector store is not started"
        if client is not None:
            await client.close()

    async def _prepare(self, client: AsyncQdrantClient) -> None:
        """Keeps `_prepared` in step with the server: set while the collection is there and ours."""
        backoff, seen = Backoff(first=0.1, most=2.0), False
        while True:
            try:
                await self._ensure(client, create=not seen)
            except VectorStoreUnavailable as error:
                self._away = error.reason
                delay = backoff.next()
                if backoff.worth_telling:
                    _log.warning("qdrant_away", reason=error.reason, retry_in=round(delay, 2))
                await asyncio.sleep(delay)
                continue
            seen = True
            backoff.reset()
            self._gone.clear()
            self._prepared.set()
            _log.info("qdrant_connected", collection=self._collection)
            await self._gone.wait()
            self._prepared.clear()

    async def _ensure(self, client: AsyncQdrantClient, *, create: bool) -> None:
        async with self._mapped("the start", self._call_timeout):
            await collection.check_version(client)
            await collection.ensure(client, self._collection, dimensions=self._dimensions, create=create)

    @asynccontextmanager
    async def _asking(
        self, what: str, seconds: float | None = None, *, reconnect_within: float = _RECONNECT_SECONDS
    ) -> AsyncIterator[AsyncQdrantClient]:
        """The client, when the collection is ready; every failure inside the block mapped."""
        try:
            async with asyncio.timeout(reconnect_within):
                await self._prepared.wait()
        except TimeoutError as error:
            raise VectorStoreUnavailable(self._away) from error
        if self._client is None:
            raise VectorStoreUnavailable(self._away)
        async with self._mapped(what, seconds or self._call_timeout):
            yield self._client

    @asynccontextmanager
    async def _mapped(self, what: str, seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise VectorStoreUnavailable(f"{what} was not answered in {seconds:g} s") from error
        except asyncio.CancelledError as error:
            # The client also raises this when it was closed meanwhile; only a cancelled caller may see it.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise VectorStoreUnavailable(f"{what} was cut off") from error
        except AioRpcError as error:
            if error.code() is StatusCode.NOT_FOUND:
                self._away = f"the collection {self._collection} is gone"
                self._gone.set()
            raise VectorStoreUnavailable(f"{what} failed: {error.code().name}: {error.details()}") from error
        except _FAILURES as error:
            raise VectorStoreUnavailable(f"{what} failed: {type(error).__name__}: {error}") from error

    async def ping(self) -> None:
        """Also notices a server that was replaced by an older or an empty one."""
        async with self._asking("ping", _PING_SECONDS, reconnect_within=_PING_RECONNECT_SECONDS) as client:
            await collection.check_version(client)
            if not await client.collection_exists(self._collection):
                self._gone.set()
                raise VectorStoreUnavailable(f"the collection {self._collection} is gone")

    async def upsert(self, points: Sequence[EnginePoint]) -> None:
        for start in range(0, len(points), _BATCH):
            async with self._writing, self._asking("upsert") as client:
                batch = await asyncio.to_thread(_structs, points[start : start + _BATCH])
                await client.upsert(self._collection, batch, wait=True)

    async def set_payload(self, where: Condition, payload: Payload) -> None:
        async with self._writing, self._asking("set_payload") as client:
            await client.set_payload(self._collection, dict(payload), filter_of(where), wait=True)

    async def set_words(self, where: Condition, words: Sequence[EngineWords]) -> None:
        async with self._writing, self._asking("set_words") as client:
            vectors = await asyncio.to_thread(_word_vectors, words)
            await client.update_vectors(self._collection, vectors, wait=True, update_filter=filter_of(where))

    async def delete(self, where: Condition) -> int:
        """Returns how many points there were just before. Points added since are deleted too."""
        async with self._writing, self._asking("delete") as client:
            chosen = filter_of(where)
            found = await client.count(self._collection, chosen, exact=True)
            await client.delete(self._collection, models.FilterSelector(filter=chosen), wait=True)
            return found.count

    async def search(self, search: EngineSearch) -> list[EngineRecord]:
        """Rankings are fused here: the server orders equal sums at random, and pages need one order."""
        async with self._asking("search") as client:
            queries = await asyncio.to_thread(_queries, search)
            if not queries:
                return []
            answers = await client.query_batch_points(self._collection, list(queries.values()))
            rankings = [ranked((UUID(str(point.id)).int, point.score) for point in answer.points) for answer in answers]
            ranking = fuse(rankings) if search["fused"] else rankings[0]
            records = await self._page(client, ranking, search["offset"], search["limit"])
            if search.get("explain"):
                points = [UUID(record["id"]).int for record in records]
                parts = parts_of(points, dict(zip(queries, rankings, strict=True)), fused=search["fused"])
                return [{**record, "parts": found} for record, found in zip(records, parts, strict=True)]
            return records

    async def _page(
        self, client: AsyncQdrantClient, ranking: list[Ranked], offset: int, limit: int
    ) -> list[EngineRecord]:
        """Points deleted between ranking and reading do not count: the page is built again without them."""
        while page := ranking[offset : offset + limit]:
            ids: list[models.ExtendedPointId] = [str(UUID(int=point)) for point, _ in page]
            found = await client.retrieve(self._collection, ids, with_payload=_IDENTITY, with_vectors=False)
            by_id = {UUID(str(record.id)).int: record for record in found}
            if len(by_id) == len(page):
                return [_record(by_id[point], score) for point, score in page]
            gone = {point for point, _ in page} - by_id.keys()
            ranking = [(point, score) for point, score in ranking if point not in gone]
        return []

    async def count(self, where: Condition) -> int:
        async with self._asking("count") as client:
            return (await client.count(self._collection, filter_of(where), exact=True)).count

    async def scroll(self, where: Condition, *, after: UUID | None, limit: int) -> list[EngineRecord]:
        async with self._asking("scroll") as client:
            records, _ = await client.scroll(
                self._collection,
                filter_of(where),
                limit=limit,
                offset=None if after is None else str(UUID(int=after.int + 1)),
                with_payload=_IDENTITY,
                with_vectors=False,
            )
            return [_record(record, 0.0) for record in records]

    async def vectors(self, where: Condition, *, limit: int) -> dict[str, list[float]]:
        async with self._asking("vectors") as client:
            records, _ = await client.scroll(
                self._collection, filter_of(where), limit=limit, with_payload=False, with_vectors=[DENSE]
            )
            return {str(record.id): cast(dict[str, list[float]], record.vector)[DENSE] for record in records}

    async def flush(self) -> None:
        """Nothing to do: the server flushes by itself, within seconds, and has its write-ahead log until then."""
        await self.ping()

    async def optimize(self) -> None:
        """Nothing to do: the server optimises by itself."""
        await self.ping()


def _structs(points: Sequence[EnginePoint]) -> list[models.PointStruct]:
    return [_struct(point) for point in points]


def _struct(point: EnginePoint) -> models.PointStruct:
    vector: models.VectorStruct = {DENSE: point["vector"], KEYWORDS: _sparse(keyword_terms.of_point(point))}
    return models.PointStruct(id=point["id"], vector=vector, payload=point["payload"])


def _word_vectors(words: Sequence[EngineWords]) -> list[models.PointVectors]:
    return [models.PointVectors(id=one["id"], vector={KEYWORDS: _sparse(keyword_terms.of_point(one))}) for one in words]


def _sparse(terms: Terms) -> models.SparseVector:
    return models.SparseVector(indices=list(terms.ids), values=list(terms.weights))


def _queries(search: EngineSearch) -> dict[str, models.QueryRequest]:
    """Every ranking goes to the same depth whatever the page: a deeper one could reorder earlier pages."""
    where = filter_of(search["where"])
    queries = {}
    if search["vector"] is not None:
        queries["semantic"] = _query(search["vector"], DENSE, where, None)
    terms = None if search["text"] is None else keyword_terms.of_search(search["text"], search["analyzers"])
    if terms is not None:
        # Term statistics of the scope only: those of the collection would reveal other tenants' words.
        statistics = models.SearchParams(idf=models.IdfCorpusParams(corpus=filter_of(search["corpus"])))
        queries["keyword"] = _query(_sparse(terms), KEYWORDS, where, statistics)
    return queries


def _query(
    vector: list[float] | models.SparseVector, using: str, where: models.Filter, params: models.SearchParams | None
) -> models.QueryRequest:
    return models.QueryRequest(
        query=models.NearestQuery(nearest=vector),
        using=using,
        filter=where,
        params=params,
        limit=MAX_WINDOW,
        with_payload=False,
        with_vector=False,
    )


def _record(record: models.Record, score: float) -> EngineRecord:
    return cast(EngineRecord, {**(record.payload or {}), "id": str(record.id), "score": score})
