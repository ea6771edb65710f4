"""The vector store's public interface: a facade for one tenant and one project; nothing wider can be searched.

    store = EmbeddedStore(path)
    await store.start()
    project = store.project(tenant_id, project_id)
    await project.upsert(points)
    hits = await project.search(VectorQuery(mode="hybrid", vector=vector, text=text))

Generations. Points of different embedding models or analyzers live side by side under different generation numbers. A
search names the generation that it reads, and term statistics are that generation's. Vectors of different length are in
different engines; whatever deletes, counts or describes points reaches all of them.

Isolation. Every call of a ProjectVectors carries `must: [tenant, project, ...]` with the caller's conditions nested
beneath, so no filter can widen it. Tenant and project of points are set here; callers cannot override them. What an
engine returns is checked against both, and the generation, once more (ScopeViolation). Term statistics are the
project's own.

Liveness. A point names its document and version, and no more: versions are switched and documents deleted in Postgres,
in one transaction, and the points follow later. A search may therefore return points of versions that are no longer or
not yet live. The caller checks every hit against Postgres and asks for more (`offset`) when some are dropped. After
`delete_*` returns, no search sees the points again.

Durability. A write that returned survives the death of every process. It survives a power cut once `flush()` has
returned; the embedded engine also flushes by itself within seconds. What a power cut takes can be written again from
the chunks in Postgres: the ids are the same.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC
from itertools import chain
from pathlib import Path
from typing import Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from services.indexing.vectors import batched_operations, metadata_terms
from services.indexing.vectors.embedded.engine import EmbeddedEngine
from services.indexing.vectors.engine import (
    Condition,
    Engine,
    EnginePoint,
    EngineRecord,
    EngineSearch,
    EngineWords,
    Payload,
)
from services.indexing.vectors.errors import (
    FilterTooExpensive,
    InvalidPoint,
    ScopeViolation,
    SearchWindowExceeded,
    VectorStoreUnavailable,
)
from services.indexing.vectors.filter_costs import CHEAP, MOST, weight
from services.indexing.vectors.filters import FilterNode
from services.indexing.vectors.points import (
    MAX_WINDOW,
    ChunkPoint,
    ChunkWords,
    Hit,
    Tally,
    Vector,
    VectorQuery,
    VersionPoints,
    point_id,
)
from services.indexing.vectors.scoped_filters import (
    equals,
    every,
    has_id,
    names_facts,
    none,
    of_filter,
    one_of,
    scoped,
    some,
)

_MOST_AWAY: Final = 10_000


class VectorStore:
    """A store over one engine for each length of vectors, of which the first is the default. `start` before use, `stop`
    at the end of the application."""

    def __init__(self, engine: Engine, *, dimensions: int, others: Mapping[int, Engine] | None = None) -> None:
        self._engines = {dimensions: engine, **(others or {})}

    async def start(self) -> None:
        """Opens the engines and creates what is missing in them (collections, payload indexes)."""
        started: list[Engine] = []
        try:
            for engine in self._engines.values():
                await engine.start()
                started.append(engine)
        except BaseException:
            for engine in started:
                await engine.stop()
            raise

    async def stop(self) -> None:
        for engine in self._engines.values():
            await engine.stop()

    async def healthy(self) -> bool:
        """Whether every engine responds within two seconds."""
        try:
            for engine in self._engines.values():
                await engine.ping()
        except VectorStoreUnavailable:
            return False
        return True

    async def flush(self) -> None:
        """What was written before survives a power cut once this returns (embedded: 16 ms after a small batch)."""
        for engine in self._engines.values():
            await engine.flush()

    async def optimize(self) -> None:
        """Merges and cleans segments now, if the engine finds it worthwhile. The embedded engine does so when idle."""
        for engine in self._engines.values():
            await engine.optimize()

    def project(self, tenant_id: UUID, project_id: UUID) -> "ProjectVectors":
        return ProjectVectors(self._engines, tenant_id, project_id)

    def tenant(self, tenant_id: UUID) -> "TenantVectors":
        return TenantVectors(self._engines.values(), tenant_id)

    async def tally(self) -> list[Tally]:
        """Points per version over all tenants: for operators and invariant checks. Ids and counts, no content."""
        tallies = [await batched_operations.tally(engine, every()) for engine in self._engines.values()]
        return list(chain.from_iterable(tallies))

    async def wipe(self) -> int:
        """Deletes every point of every tenant; the check of each project brings them back
        (`services.indexing.generations`). Returns how many there were."""
        return sum([await batched_operations.delete(engine, every()) for engine in self._engines.values()])


class EmbeddedStore(VectorStore):
    """Qdrant's engine in a child process, its data under `path`. One process at a time may have it started.

    New vectors are gathered up to `indexing_threshold_kb` before they are worth optimising.
    """

    def __init__(
        self,
        path: Path,
        *,
        dimensions: int = 384,
        lock_timeout: float = 10.0,
        call_timeout: float = 30.0,
        indexing_threshold_kb: int = 10_000,
    ) -> None:
        self.engine = EmbeddedEngine(
            path,
            dimensions=dimensions,
            lock_timeout=lock_timeout,
            call_timeout=call_timeout,
            indexing_threshold_kb=indexing_threshold_kb,
        )
        super().__init__(self.engine, dimensions=dimensions)


class TenantVectors:
    """Everything of one tenant, only for erasure: it can count and delete, not search."""

    __slots__ = ("_engines", "_scope")

    def __init__(self, engines: Iterable[Engine], tenant_id: UUID) -> None:
        self._engines = tuple(engines)
        self._scope = every(equals("tenant_id", _id(tenant_id)))

    async def count(self) -> int:
        return sum([await engine.count(self._scope) for engine in self._engines])

    async def delete_tenant(self, *, at_most: int | None = None) -> int:
        """Returns how many points were deleted."""
        return await batched_operations.delete_from(self._engines, self._scope, at_most)


class ProjectVectors:
    """One project of one tenant. Made by `VectorStore.project`; cheap, so make one per request.

    Writes and deletes may be repeated. `delete_*` return how many points were deleted: with `at_most`, fewer than that
    means that none is left. Points are deleted and described `batched_operations.SIZE` at a time, with other callers in
    between.
    """

    __slots__ = ("_default", "_engines", "_project_id", "_scope", "_tenant_id")

    def __init__(self, engines: Mapping[int, Engine], tenant_id: UUID, project_id: UUID) -> None:
        self._engines = engines
        self._default = next(iter(engines))
        self._tenant_id = _id(tenant_id)
        self._project_id = _id(project_id)
        self._scope = (equals("tenant_id", self._tenant_id), equals("project_id", self._project_id))

    async def upsert(self, points: Sequence[ChunkPoint]) -> None:
        """Points whose vectors have the same length.

        Raises InvalidPoint (nothing written) or VectorStoreUnavailable (some may be: write all again).
        """
        if points:
            stamped = [self._stamped(point) for point in points]
            lengths = {len(point["vector"]) for point in stamped}
            if len(lengths) != 1 or not lengths <= self._engines.keys():
                raise InvalidPoint(f"vectors of {sorted(lengths)} numbers, expected one of {sorted(self._engines)}")
            await self._engines[lengths.pop()].upsert(stamped)

    async def set_metadata(self, document_id: UUID, metadata: metadata_terms.Metadata) -> None:
        """Replaces the metadata that filters see, for every version of the document, which is left without a name."""
        after = await self.set_metadata_after(None, document_id, metadata)
        while after is not None:
            after = await self.set_metadata_after(after, document_id, metadata)

    async def set_metadata_after(
        self,
        after: UUID | None,
        document_id: UUID,
        metadata: metadata_terms.Metadata,
        *,
        name: str = "",
        language: str | None = None,
    ) -> UUID | None:
        """The same for `batched_operations.SIZE` points of each engine after the given one (None: from the first).
        Returns where to go on, or None at the end."""
        found = metadata_terms.of_document(metadata, name=name, language=language)
        ends = [await self._describe(engine, after, document_id, found) for engine in self._engines.values()]
        return min((end for end in ends if end is not None), default=None)

    async def _describe(
        self, engine: Engine, after: UUID | None, document_id: UUID, found: metadata_terms.Facts
    ) -> UUID | None:
        document = equals("document_id", document_id)
        piece = await engine.scroll(self._within(document), after=after, limit=batched_operations.SIZE)
        ids = [UUID(record["id"]) for record in piece]
        firsts = [point for point, record in zip(ids, piece, strict=True) if record["chunk_index"] == 0]
        others = [point for point, record in zip(ids, piece, strict=True) if record["chunk_index"] != 0]
        for points, index in ((firsts, 0), (others, 1)):
            if points:
                await engine.set_payload(self._within(document, has_id(points)), found.of_chunk(index))
        return ids[-1] if len(ids) == batched_operations.SIZE else None

    async def set_words(self, document_id: UUID, version: int, analyzers: Mapping[int, str], words: ChunkWords) -> None:
        """Replaces what the first chunk of a version is found by in a search by words. `analyzers`: of generations;
        points of others stay as they are."""
        first = self._within(equals("document_id", document_id), equals("version", version), equals("chunk_index", 0))
        for engine in self._engines.values():
            found = [
                EngineWords(
                    id=record["id"],
                    text=words.text,
                    context=words.context,
                    analyzer=analyzers[record["generation"]],
                    average_length=words.average_length,
                )
                for record in await engine.scroll(first, after=None, limit=batched_operations.SIZE)
                if record["generation"] in analyzers
            ]
            if found:
                await engine.set_words(first, found)

    async def search(self, query: VectorQuery) -> list[Hit]:
        """Ranked hits, best first.

        Raises:
            SearchWindowExceeded: past the first MAX_WINDOW results.
            FilterTooExpensive: the engine would have to look at too much.
        """
        if query.limit < 1 or query.offset < 0 or query.offset + query.limit > MAX_WINDOW:
            raise SearchWindowExceeded()
        semantic, keyword = query.mode != "keyword", query.mode != "semantic"
        if (semantic and query.vector is None) or (keyword and query.text is None):
            raise ValueError(f"a {query.mode} search needs its {'vector' if semantic else 'text'}")
        engine = self._engine(query.dimensions)
        generation = [] if query.generation is None else [equals("generation", query.generation)]
        wanted = generation if query.filter is None else [*generation, await self._condition(engine, query.filter)]
        search = EngineSearch(
            where=self._within(*wanted),
            corpus=self._within(*generation),
            vector=_numbers(query.vector, query.dimensions or self._default)
            if semantic and query.vector is not None
            else None,
            text=query.text if keyword else None,
            analyzers=list(query.analyzers),
            fused=semantic and keyword,
            limit=query.limit,
            offset=query.offset,
        )
        if query.explain:
            search["explain"] = True
        return [self._hit(record, query.generation) for record in await engine.search(search)]

    async def _condition(self, engine: Engine, node: FilterNode) -> Condition:
        """The filter for chunks that carry their document's facts, and the matching documents among the others.

        One filter can match up to `_MOST_AWAY` documents with a lot of metadata.

        Raises:
            FilterTooExpensive: the engine would have to look at too much.
        """
        weighs = weight(node)
        if weighs > CHEAP and weighs * await engine.count(self._within()) > MOST:
            raise FilterTooExpensive
        wanted = of_filter(node)
        if not names_facts(node):
            return wanted
        firsts = await batched_operations.scroll(
            engine, self._within(equals("facts", metadata_terms.FIRST), wanted), most=_MOST_AWAY
        )
        here = every(wanted, none(equals("facts", metadata_terms.AWAY)))
        documents = sorted({record["document_id"] for record in firsts})
        return some(here, one_of("document_id", documents)) if documents else here

    async def count(self, document_id: UUID | None = None, version: int | None = None) -> int:
        where = self._within(*_of_document(document_id, version))
        return sum([await engine.count(where) for engine in self._engines.values()])

    async def tally(self, document_id: UUID | None = None) -> list[Tally]:
        """Points per version and generation."""
        where = self._within(*_of_document(document_id, None))
        tallies = [await batched_operations.tally(engine, where) for engine in self._engines.values()]
        return list(chain.from_iterable(tallies))

    async def point_ids(self, document_id: UUID) -> list[UUID]:
        where = self._within(equals("document_id", document_id))
        found = [await batched_operations.scroll(engine, where) for engine in self._engines.values()]
        return [UUID(record["id"]) for record in chain.from_iterable(found)]

    async def present(self, version: VersionPoints, first: int, last: int, *, dimensions: int) -> int:
        """How many of the version's chunks from `first` up to `last` have a point."""
        ids = [point_id(self._tenant_id, self._project_id, version, index) for index in range(first, last)]
        if not ids:
            return 0
        return await self._engine(dimensions).count(self._within(has_id(ids)))

    async def vectors(
        self, version: VersionPoints, indexes: Collection[int], *, dimensions: int
    ) -> dict[int, npt.NDArray[np.float32]]:
        """The vectors of those of the version's chunks that have a point, of length one, by the chunks' indexes."""
        ids = {point_id(self._tenant_id, self._project_id, version, index): index for index in indexes}
        if not ids:
            return {}
        found = await self._engine(dimensions).vectors(self._within(has_id(list(ids))), limit=len(ids))
        return {ids[UUID(point)]: np.array(numbers, np.float32) for point, numbers in found.items()}

    async def page(self, after: UUID | None, *, limit: int, dimensions: int) -> list[Hit]:
        """Points of the project by ascending id, whatever their generation, after the given one."""
        records = await self._engine(dimensions).scroll(self._within(), after=after, limit=limit)
        return [self._hit(record, None) for record in records]

    async def delete_document(self, document_id: UUID, *, at_most: int | None = None) -> int:
        return await self._delete(equals("document_id", document_id), at_most=at_most)

    async def delete_version(self, document_id: UUID, version: int) -> int:
        return await self._delete(equals("document_id", document_id), equals("version", version))

    async def delete_versions_except(
        self, document_id: UUID, versions: Collection[int], *, at_most: int | None = None
    ) -> int:
        """Delete every other version of the document."""
        kept = [none(equals("version", version)) for version in sorted(versions)]
        return await self._delete(equals("document_id", document_id), *kept, at_most=at_most)

    async def delete_generation(self, generation: int, *, at_most: int | None = None) -> int:
        return await self._delete(equals("generation", generation), at_most=at_most)

    async def delete_project(self) -> int:
        return await self._delete()

    async def _delete(self, *conditions: Condition, at_most: int | None = None) -> int:
        return await batched_operations.delete_from(self._engines.values(), self._within(*conditions), at_most)

    def _engine(self, dimensions: int | None) -> Engine:
        """Raises VectorStoreUnavailable: no engine of this process has vectors of that length."""
        engine = self._engines.get(dimensions or self._default)
        if engine is None:
            raise VectorStoreUnavailable(f"there is no engine for vectors of {dimensions} numbers")
        return engine

    def _within(self, *conditions: Condition) -> Condition:
        return scoped(self._scope, *conditions)

    def _stamped(self, point: ChunkPoint) -> EnginePoint:
        if point.created_at.tzinfo is None:
            raise InvalidPoint("created_at has no time zone")
        facts = metadata_terms.of_document(point.metadata, name=point.name, language=point.language)
        payload: Payload = {
            "tenant_id": str(self._tenant_id),
            "project_id": str(self._project_id),
            "document_id": str(point.document_id),
            "version": point.version,
            "generation": point.generation,
            "chunk_index": point.chunk_index,
            "content_type": point.content_type,
            "created_at": point.created_at.astimezone(UTC).isoformat(),
            **facts.of_chunk(point.chunk_index),
        }
        return EnginePoint(
            id=str(point_id(self._tenant_id, self._project_id, point, point.chunk_index)),
            vector=_numbers(point.vector, None),
            text=point.text,
            context=point.context,
            analyzer=point.analyzer,
            average_length=point.average_length,
            payload=dict(payload),
        )

    def _hit(self, record: EngineRecord, generation: int | None) -> Hit:
        if (record["tenant_id"], record["project_id"]) != (str(self._tenant_id), str(self._project_id)):
            raise ScopeViolation("a point of another tenant or project was returned")
        if generation not in (None, record["generation"]):
            raise ScopeViolation("a point of another generation was returned")
        return Hit(
            point_id=UUID(record["id"]),
            document_id=UUID(record["document_id"]),
            version=record["version"],
            generation=record["generation"],
            chunk_index=record["chunk_index"],
            score=record["score"],
            parts=record.get("parts"),
        )


def _numbers(vector: Vector, dimensions: int | None) -> list[float]:
    with np.errstate(over="ignore"):  # what overflows is not finite, and refused below
        array = np.asarray(vector, dtype=np.float32)
    if array.ndim != 1 or dimensions not in (None, len(array)):
        raise InvalidPoint(f"a vector of shape {array.shape}, expected {dimensions} numbers")
    if not np.isfinite(array).all() or not array.any():
        raise InvalidPoint("a vector that is zero or not finite has no direction")
    numbers: list[float] = array.tolist()
    return numbers


def _id(value: UUID) -> UUID:
    if not isinstance(value, UUID) or value.int == 0:
        raise TypeError("a tenant or project id is missing")
    return value


def _of_document(document_id: UUID | None, version: int | None) -> list[Condition]:
    conditions = [] if document_id is None else [equals("document_id", document_id)]
    return conditions if version is None else [*conditions, equals("version", version)]
