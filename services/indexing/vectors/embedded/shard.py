"""The embedded engine itself: one Qdrant shard in a directory, owned by one process.

Dense vectors are compared exactly (recall 1.0): building a graph holds the interpreter for minutes (142 s at 100,000
points), while an exact hybrid search of that many points takes 16 ms. Segments are small so that no single optimisation
takes long (about half a second) and memory stays low. Larger data needs a Qdrant server.
"""

from __future__ import annotations  # some of the engine's type names exist only in its stubs

import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import Any, Final, TypedDict, cast
from uuid import UUID

import qdrant_edge as edge

from services.indexing import analysis
from services.indexing.analysis.analyzer import Terms
from services.indexing.vectors import keyword_terms
from services.indexing.vectors.embedded.filter_translation import JsonObject, filter_of
from services.indexing.vectors.engine import EnginePoint, EngineWords
from services.indexing.vectors.ranking import Ranked, fuse, parts_of, ranked

_DENSE: Final = "dense"
_KEYWORDS: Final = "keywords"
_IDENTITY: Final = ["tenant_id", "project_id", "document_id", "version", "generation", "chunk_index"]
_SEGMENT_KB: Final = 30_000
_SEGMENTS: Final = 8


class ShardOptions(TypedDict):
    path: str
    dimensions: int
    depth: int
    indexing_threshold_kb: int
    indexes: dict[str, str]
    lock_timeout: float


Record = dict[str, Any]
"""`id`, `score` and the fields of `_IDENTITY`."""


class ShardLocked(Exception):
    """Another process holds the directory."""


class Shard:
    """Synchronous: every call holds the interpreter until it is done. Use from one thread of one process."""

    def __init__(self, options: ShardOptions) -> None:
        home = Path(options["path"])
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(home / "owner.lock", options["lock_timeout"])
        self._shard = _open(home, _config(options["dimensions"], options["indexing_threshold_kb"]))
        analysis.prepare()
        self._depth = options["depth"]
        present = self._shard.info().payload_schema
        for field, kind in options["indexes"].items():
            if field not in present:
                self._shard.update(edge.UpdateOperation.create_field_index(field, _index(kind)))

    def ping(self) -> None:
        self._shard.info()

    def upsert(self, points: list[JsonObject]) -> None:
        self._shard.update(edge.UpdateOperation.upsert_points([self._point(point) for point in points]))

    def _point(self, point: JsonObject) -> edge.Point:
        vectors: dict[str, edge.NamedVector] = {
            _DENSE: point["vector"],
            _KEYWORDS: _sparse(keyword_terms.of_point(cast(EnginePoint, point))),
        }
        return edge.Point(UUID(point["id"]), vectors, point["payload"])

    def set_payload(self, where: JsonObject, payload: JsonObject) -> None:
        self._shard.update(edge.UpdateOperation.set_payload_by_filter(filter_of(where), payload))

    def set_words(self, where: JsonObject, words: list[JsonObject]) -> None:
        vectors = [
            edge.PointVectors(UUID(one["id"]), {_KEYWORDS: _sparse(keyword_terms.of_point(cast(EngineWords, one)))})
            for one in words
        ]
        self._shard.update(edge.UpdateOperation.update_vectors(vectors, filter_of(where)))

    def delete(self, where: JsonObject) -> int:
        """Returns how many points there were. Nothing runs between counting and deleting: there is one thread."""
        found = self.count(where)
        if found:
            self._shard.update(edge.UpdateOperation.delete_points_by_filter(filter_of(where)))
        return found

    def count(self, where: JsonObject) -> int:
        return self._shard.count(edge.CountRequest(exact=True, filter=filter_of(where)))

    def search(
        self,
        *,
        where: JsonObject,
        corpus: JsonObject,
        vector: list[float] | None,
        text: str | None,
        analyzers: list[str],
        fused: bool,
        limit: int,
        offset: int,
        explain: bool = False,
    ) -> list[Record]:
        """Every ranking goes to the same depth whatever the page: a deeper one could reorder earlier pages."""
        queries = {}
        if vector is not None:
            queries["semantic"] = self._query(edge.Query.Nearest(vector, _DENSE), where, None)
        terms = None if text is None else keyword_terms.of_search(text, analyzers)
        if terms is not None:
            # Term statistics of the scope only: those of the whole shard would reveal other tenants' words.
            statistics = edge.SearchParams(idf=edge.IdfParams(corpus=filter_of(corpus)))
            queries["keyword"] = self._query(edge.Query.Nearest(_sparse(terms), _KEYWORDS), where, statistics)
        if not queries:
            return []
        answers = [
            ranked([(_number(point.id), point.score) for point in points])
            for points in self._shard.query_batch(edge.QueryBatchRequest(list(queries.values())))
        ]
        page = (fuse(answers) if fused else answers[0])[offset : offset + limit]
        records = self._records(page)
        if explain:
            parts = parts_of([point for point, _ in page], dict(zip(queries, answers, strict=True)), fused=fused)
            return [{**record, "parts": found} for record, found in zip(records, parts, strict=True)]
        return records

    def _query(self, query: edge.Query, where: JsonObject, params: edge.SearchParams | None) -> edge.QueryRequest:
        return edge.QueryRequest(
            limit=self._depth,
            query=query,
            filter=filter_of(where),
            params=params,
            with_payload=False,
            with_vector=False,
        )

    def _records(self, ranking: list[Ranked]) -> list[Record]:
        ids: list[edge.PointId] = [UUID(int=point) for point, _ in ranking]
        found = self._shard.retrieve(ids, with_payload=_IDENTITY, with_vector=False)
        by_id = {_number(record.id): record for record in found}
        return [_record(by_id[point], score) for point, score in ranking]

    def scroll(self, *, where: JsonObject, after: str | None, limit: int) -> list[Record]:
        """Points by ascending id, after the given one."""
        request = edge.ScrollRequest(
            offset=None if after is None else UUID(int=UUID(after).int + 1),
            limit=limit,
            filter=filter_of(where),
            with_payload=_IDENTITY,
            with_vector=False,
        )
        records, _ = self._shard.scroll(request)
        return [_record(record, 0.0) for record in records]

    def vectors(self, *, where: JsonObject, limit: int) -> dict[str, list[float]]:
        request = edge.ScrollRequest(limit=limit, filter=filter_of(where), with_payload=False, with_vector=[_DENSE])
        records, _ = self._shard.scroll(request)
        return {str(record.id): cast(dict[str, list[float]], record.vector)[_DENSE] for record in records}

    def flush(self) -> None:
        self._shard.flush()

    def optimize(self) -> None:
        """Merges and cleans segments where the engine finds it worthwhile; returns at once where it does not."""
        self._shard.optimize()

    def close(self) -> None:
        self._shard.flush()
        self._shard.close()
        os.close(self._lock)


def _sparse(terms: Terms) -> edge.SparseVector:
    return edge.SparseVector(indices=list(terms.ids), values=list(terms.weights))


def _number(point: edge.PointId) -> int:
    """Point ids are always UUIDs here; as numbers they compare and hash four times as fast."""
    return cast(UUID, point).int


def _record(record: edge.Record, score: float) -> Record:
    return {**(record.payload or {}), "id": str(record.id), "score": score}


def _lock(path: Path, timeout: float) -> int:
    """Waits for a predecessor that is still ending; the kernel releases the lock with its process, so none is stale."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise ShardLocked(
                    f"another process uses {path.parent}: share its engine through a socket (set "
                    "QUARRY_INDEXING_VECTORS_LISTEN there, QUARRY_INDEXING_VECTORS_SOCKET here), "
                    "or use a Qdrant server (QUARRY_INDEXING_QDRANT_URL)"
                ) from None
            time.sleep(0.02)
        else:
            return descriptor


def _open(home: Path, config: edge.EdgeConfig) -> edge.EdgeShard:
    """The shard in `home`, created if missing. A shard half created by a killed process is never mistaken for one."""
    shard, fresh = home / "shard", home / "shard.new"
    if not shard.exists():
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        edge.EdgeShard.create(str(fresh), config).close()
        fresh.rename(shard)
    return edge.EdgeShard.load(str(shard), config)


def _config(dimensions: int, indexing_threshold_kb: int) -> edge.EdgeConfig:
    return edge.EdgeConfig(
        vectors={_DENSE: edge.EdgeVectorParams(size=dimensions, distance=edge.Distance.Cosine)},
        sparse_vectors={_KEYWORDS: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
        hnsw_config=edge.HnswIndexConfig(m=0, payload_m=0, ef_construct=100, full_scan_threshold=10_000),
        optimizers=edge.EdgeOptimizersConfig(
            max_segment_size=_SEGMENT_KB,
            default_segment_number=_SEGMENTS,
            indexing_threshold=indexing_threshold_kb,
        ),
        max_search_threads=2,
        wal_enabled=True,
    )


def _index(kind: str) -> edge.PayloadSchemaParams:
    match kind:
        case "uuid":
            return edge.UuidIndexParams(enable_hnsw=False)
        case "keyword":
            return edge.KeywordIndexParams(prefix=True, enable_hnsw=False)
        case "integer":
            return edge.IntegerIndexParams(lookup=True, range=False, enable_hnsw=False)
        case "datetime":
            return edge.DatetimeIndexParams(enable_hnsw=False)
        case _:
            raise ValueError(f"unknown index: {kind}")
