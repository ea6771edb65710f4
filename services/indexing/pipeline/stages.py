"""One job from bytes to searchable: extract, chunk, embed, store, switch.

A stage's results are kept before the next relies on them: chunks always, vectors of a large document every
`_KEPT_CHUNKS`. A worker that takes the job over continues from there. Points are deterministic, so storing them twice
is storing them once. The lease is checked between steps, so a cancelled or lost job stops soon and then writes nothing.

A job takes long when its document takes long to read or has more than `_SHORT_CHUNKS` chunks: from then on it has a
long place, and goes on step by step when no short job is under way.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.analysis import document_language
from services.indexing.documents import repository as documents
from services.indexing.documents.chunk_lengths import ChunkLengths, Lengths, average
from services.indexing.documents.content import ContentSource
from services.indexing.documents.models import Document
from services.indexing.embedders import Embedder, Vectors
from services.indexing.embedders.installed import Embedders
from services.indexing.generations import repository as generations
from services.indexing.generations.chunk_points import point_of
from services.indexing.generations.errors import GenerationSwitched
from services.indexing.generations.identity import Current, Identity
from services.indexing.jobs import service as jobs
from services.indexing.jobs.leases import Lease
from services.indexing.jobs.metrics import JobMetrics
from services.indexing.jobs.worker_places import Share
from services.indexing.pipeline.documents import Chunk, ChunkedDocument
from services.indexing.pipeline.extraction import ExtractionPool
from services.indexing.progress import ProgressPublisher
from services.indexing.vectors.store import VectorStore
from shared.failpoints import failpoint
from shared.telemetry import get_logger, span
from shared.tenancy import Database

_KEPT_CHUNKS: Final = 256
_EMBEDDED_CHUNKS: Final = 64
# Clients do not watch longer documents being indexed.
_SHORT_CHUNKS: Final = 64
# Analysing these takes the engine about 8 ms, while no search is answered.
_STORED_CHUNKS: Final = 32

_log = get_logger(__name__)

AFTER_UPSERT = failpoint("indexing.after_upsert", "points of the version stored, version not switched")
AFTER_SWITCH = failpoint("indexing.after_switch", "version switched, points of the one before not deleted")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Start:
    """The document when its job began, the generation its points are written to, and the chunks of its project."""

    document: Document
    generation: Current
    lengths: Lengths


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What the stages need."""

    database: Database
    content: ContentSource
    extraction: ExtractionPool
    embedders: Embedders
    store: VectorStore
    progress: ProgressPublisher
    metrics: JobMetrics
    lengths: ChunkLengths

    @asynccontextmanager
    async def transaction(self, lease: Lease) -> AsyncIterator[AsyncSession]:
        """A transaction of the job's tenant; its events carry the upload's correlation id."""
        async with self.database.tenant(lease.tenant_id) as session:
            session.info["correlation_id"] = lease.correlation_id
            yield session

    async def run(self, lease: Lease, share: Share) -> None:
        """Do the whole job, or the rest of it.

        Raises:
            JobStopped: lost, cancelled or obsolete, or to be continued later.
            Exception: any other failure; `jobs.failures.judge` says what it means.
        """
        lease.check()
        self.progress.enter(lease, lease.stage)
        if lease.chunk_count is None:
            start, extracted = await self._extract(lease, share)
            chunks = extracted.chunks
            if len(chunks) > _SHORT_CHUNKS:
                share.takes_long()
            with self.metrics.stage("chunking"), span("chunk"):
                keeping = await self._keep(lease, share, extracted)
        else:
            start, chunks = await self._resume(lease)
            keeping = _nothing()
        async with _beside(keeping):
            vectors = await self._embed(lease, share, start.generation, chunks)
        while not await self._complete(lease, share, start, chunks, vectors):
            async with self.transaction(lease) as session:
                start = replace(start, generation=await self._generation(session, lease))
            vectors = await self._embed(lease, share, start.generation, chunks)
        self.metrics.searchable(lease.uploaded_at)
        await AFTER_SWITCH.reach()
        self.progress.end(lease, "indexed")

    async def _complete(
        self, lease: Lease, share: Share, start: _Start, chunks: Sequence[Chunk], vectors: Vectors
    ) -> bool:
        """Store the points and switch to the version; False when search has gone over to another generation."""
        language = await asyncio.to_thread(document_language.of_document, (chunk.text for chunk in chunks))
        average_length = await self._store(lease, share, start, chunks, vectors, language)
        await AFTER_UPSERT.reach()
        try:
            async with self.transaction(lease) as session:
                await jobs.complete(
                    session,
                    lease,
                    described=start.document.described,
                    language=language,
                    chunk_count=len(chunks),
                    characters=_lengths(chunks).characters,
                    average_length=average_length,
                    kept_batches=len(chunks) > _KEPT_CHUNKS,
                    generation=start.generation.number,
                )
        except GenerationSwitched:
            _log.info("generation_switched_meanwhile", version=lease.version)
            return False
        return True

    async def _extract(self, lease: Lease, share: Share) -> tuple[_Start, ChunkedDocument]:
        with self.metrics.stage("extracting"), span("extract"):
            async with _beside(self._begin(lease)) as beginning, self.content.fetched(lease) as content:
                start = await beginning
                extracted = await self.extraction.extract(
                    content.path,
                    name=start.document.name,
                    declared_type=_with_charset(start.document.content_type, content.charset),
                    tenant_id=lease.tenant_id,
                    long=lease.long_running,
                    takes_long=share.takes_long,
                )
        if extracted.partly_read:
            _log.info("document_partly_read", reasons=extracted.partly_read)
        lease.check()
        self.progress.enter(lease, "chunking")
        return start, extracted

    async def _begin(self, lease: Lease) -> _Start:
        async with self.transaction(lease) as session:
            return await self._start(session, lease)

    async def _start(self, session: AsyncSession, lease: Lease) -> _Start:
        document = await jobs.start(session, lease)
        generation = await self._generation(session, lease)
        return _Start(document, generation, await self.lengths.of_project(session, lease.project_id))

    async def _generation(self, session: AsyncSession, lease: Lease) -> Current:
        return await generations.begun(session, lease.project_id, Identity.of(self.embedders.target))

    async def _keep(self, lease: Lease, share: Share, extracted: ChunkedDocument) -> Coroutine[Any, Any, None]:
        """Keep the chunks of a large document now, in batches; those of a small one during the next stage."""
        if len(extracted.chunks) <= _KEPT_CHUNKS:
            return self._keep_batch(lease, extracted, 0)
        for first in range(0, len(extracted.chunks), _KEPT_CHUNKS):
            async with share.step():
                await self._keep_batch(lease, extracted, first)
        return _nothing()

    async def _keep_batch(self, lease: Lease, extracted: ChunkedDocument, first: int) -> None:
        rows = [_row(lease, piece) for piece in extracted.chunks[first : first + _KEPT_CHUNKS]]
        async with self.transaction(lease) as session:
            await jobs.keep_chunks(
                session,
                lease,
                rows,
                first=first,
                total=len(extracted.chunks),
                title=extracted.title,
                partly_read=extracted.partly_read,
            )

    async def _resume(self, lease: Lease) -> tuple[_Start, list[Chunk]]:
        chunks: list[Chunk] = []
        async with self.transaction(lease) as session:
            start = await self._start(session, lease)
            while rows := await documents.chunks_from(
                session, lease.document_id, lease.version, first=len(chunks), limit=_KEPT_CHUNKS
            ):
                lease.check()
                chunks += [Chunk(*row) for row in rows]
        return start, chunks

    async def _embed(self, lease: Lease, share: Share, generation: Current, chunks: Sequence[Chunk]) -> Vectors:
        embedder = self.embedders.named(generation.identity.embedder)
        vectors = await self._kept_vectors(lease, embedder)
        self.progress.enter(lease, "embedding", total=len(chunks))
        with self.metrics.stage("embedding"), span("embed", attributes={"quarry.chunks": len(chunks)}):
            done = sum(len(batch) for batch in vectors)
            unkept: list[Vectors] = []
            while done < len(chunks):
                lease.check()
                texts = [piece.searched for piece in chunks[done : done + _EMBEDDED_CHUNKS]]
                unkept.append(await embedder.embed(texts, caller=lease.tenant_id, background=lease.long_running))
                done += len(texts)
                self.progress.advance(lease, done)
                if len(unkept) * _EMBEDDED_CHUNKS >= _KEPT_CHUNKS and done < len(chunks):
                    vectors.append(await self._keep_vectors(lease, embedder, unkept))
                    unkept = []
                    await share.pause()
        return np.concatenate([*vectors, *unkept])

    async def _kept_vectors(self, lease: Lease, embedder: Embedder) -> list[Vectors]:
        """Vectors that a previous worker kept of a large document."""
        if lease.chunk_count is None or lease.chunk_count <= _KEPT_CHUNKS:
            return []
        async with self.transaction(lease) as session:
            batches = await documents.batches_of(session, lease.document_id, lease.version, embedder.name)
        return [np.frombuffer(batch.vectors, "<f4").reshape(batch.count, -1) for batch in batches]

    async def _keep_vectors(self, lease: Lease, embedder: Embedder, batches: Sequence[Vectors]) -> Vectors:
        vectors = np.concatenate(batches).astype("<f4", copy=False)
        first_index = lease.done - len(vectors)
        async with self.transaction(lease) as session:
            await jobs.keep_batch(
                session, lease, first_index=first_index, model=embedder.name, vectors=vectors.tobytes()
            )
        return vectors

    async def _store(
        self,
        lease: Lease,
        share: Share,
        start: _Start,
        chunks: Sequence[Chunk],
        vectors: Vectors,
        language: str | None,
    ) -> float:
        """Returns the average length that the chunks were measured against."""
        self.progress.enter(lease, "storing", total=len(chunks))
        project = self.store.project(lease.tenant_id, lease.project_id)
        average_length = average(start.lengths, _lengths(chunks))
        with self.metrics.stage("storing"), span("store"):
            for first in range(0, len(chunks), _STORED_CHUNKS):
                last = min(first + _STORED_CHUNKS, len(chunks))
                async with share.step():
                    await project.upsert(
                        [
                            point_of(
                                start.document,
                                lease.version,
                                chunks[index],
                                vectors[index],
                                generation=start.generation,
                                language=language,
                                average_length=average_length,
                            )
                            for index in range(first, last)
                        ]
                    )
                self.progress.advance(lease, last)
        lease.check()
        return average_length


def _with_charset(content_type: str, charset: str | None) -> str:
    return content_type if charset is None else f"{content_type}; charset={charset}"


def _row(lease: Lease, piece: Chunk) -> dict[str, Any]:
    return {
        "project_id": lease.project_id,
        "document_id": lease.document_id,
        "version": lease.version,
        "chunk_index": piece.index,
        "start_offset": piece.start,
        "end_offset": piece.end,
        "page": piece.page,
        "text": piece.text,
        "location": piece.location,
        "context": piece.context or None,
    }


def _lengths(chunks: Sequence[Chunk]) -> Lengths:
    return Lengths(len(chunks), sum(len(chunk.context) + len(chunk.text) for chunk in chunks))


async def _nothing() -> None:
    return


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, T]) -> AsyncIterator["asyncio.Task[T]"]:
    """Run `work` beside the block and wait for it at the end; a block that fails stops it."""
    task = asyncio.create_task(work)
    try:
        yield task
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
