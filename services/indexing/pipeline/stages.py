"""One job from bytes to searchable: extract, chunk, embed, store, switch.

What a stage made is kept before the next relies on it: chunks always, vectors of a large document every `_KEPT_CHUNKS`.
Whoever takes the job over continues from there. Points are deterministic, so storing them twice is storing them once.
The lease is checked between steps, so a cancelled or lost job stops soon and writes nothing after.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents import repository as documents
from services.indexing.documents.content import ContentSource
from services.indexing.documents.models import Document
from services.indexing.embedders import Embedder, Vectors
from services.indexing.jobs import service as jobs
from services.indexing.jobs.leases import Lease
from services.indexing.jobs.metrics import JobMetrics
from services.indexing.pipeline.chunking import Chunk, chunk
from services.indexing.pipeline.documents import Extracted
from services.indexing.pipeline.extraction import ExtractionPool
from services.indexing.progress import ProgressPublisher
from services.indexing.vectors.points import ChunkPoint
from services.indexing.vectors.store import VectorStore
from shared.failpoints import failpoint
from shared.telemetry import span
from shared.tenancy import Database

_KEPT_CHUNKS: Final = 256
_EMBEDDED_CHUNKS: Final = 64
_STORED_CHUNKS: Final = 128
_INLINE_CHARACTERS: Final = 20_000

AFTER_UPSERT = failpoint("indexing.after_upsert", "points of the version stored, version not switched")
AFTER_SWITCH = failpoint("indexing.after_switch", "version switched, points of the one before not deleted")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What the stages work with."""

    database: Database
    content: ContentSource
    extraction: ExtractionPool
    embedder: Embedder
    store: VectorStore
    progress: ProgressPublisher
    metrics: JobMetrics

    @asynccontextmanager
    async def transaction(self, lease: Lease) -> AsyncIterator[AsyncSession]:
        """A transaction of the job's tenant; its events carry on the correlation of the upload."""
        async with self.database.tenant(lease.tenant_id) as session:
            session.info["correlation_id"] = lease.correlation_id
            yield session

    async def run(self, lease: Lease) -> None:
        """Do the whole job, or what is left of it.

        Raises:
            JobStopped: lost, cancelled or obsolete.
            Exception: whatever went wrong; `jobs.failures.judge` says what it means.
        """
        lease.check()
        self.progress.enter(lease, lease.stage)
        if lease.chunk_count is None:
            document, chunks = await self._extract_and_chunk(lease)
            keeping = self._keep(lease, chunks)
        else:
            document, chunks = await self._resume(lease)
            keeping = _nothing()
        if len(chunks) > _KEPT_CHUNKS:
            await keeping
            keeping = _nothing()
        async with _beside(keeping):
            vectors = await self._embed(lease, chunks)
        await self._store(lease, document, chunks, vectors)
        await AFTER_UPSERT.reach()
        async with self.transaction(lease) as session:
            await jobs.complete(
                session,
                lease,
                described=document.attributes,
                chunk_count=len(chunks),
                kept_batches=len(chunks) > _KEPT_CHUNKS,
            )
        self.metrics.searchable(lease.uploaded_at)
        await AFTER_SWITCH.reach()
        self.progress.end(lease, "indexed")

    async def _extract_and_chunk(self, lease: Lease) -> tuple[Document, list[Chunk]]:
        with self.metrics.stage("extracting"):
            document, extracted = await self._extract(lease)
        lease.check()
        self.progress.enter(lease, "chunking")
        with self.metrics.stage("chunking"), span("chunk"):
            chunks = await _chunked(extracted)
        return document, chunks

    async def _extract(self, lease: Lease) -> tuple[Document, Extracted]:
        async with _beside(self._begin(lease)) as beginning, self.content.fetched(lease) as path:
            document = await beginning
            with span("extract"):
                return document, await self.extraction.extract(
                    path, name=document.name, declared_type=document.content_type
                )

    async def _begin(self, lease: Lease) -> Document:
        async with self.transaction(lease) as session:
            return await jobs.start(session, lease)

    async def _keep(self, lease: Lease, chunks: Sequence[Chunk]) -> None:
        rows = [_row(lease, piece) for piece in chunks]
        async with self.transaction(lease) as session:
            await jobs.keep_chunks(session, lease, rows)

    async def _resume(self, lease: Lease) -> tuple[Document, list[Chunk]]:
        async with self.transaction(lease) as session:
            document = await jobs.start(session, lease)
            rows = await documents.chunks_of(session, lease.document_id, lease.version)
        return document, [Chunk(row.chunk_index, row.start_offset, row.end_offset, row.text, row.page) for row in rows]

    async def _embed(self, lease: Lease, chunks: Sequence[Chunk]) -> Vectors:
        vectors = await self._kept_vectors(lease)
        self.progress.enter(lease, "embedding", total=len(chunks))
        with self.metrics.stage("embedding"), span("embed", attributes={"quarry.chunks": len(chunks)}):
            done = sum(len(batch) for batch in vectors)
            unkept: list[Vectors] = []
            while done < len(chunks):
                lease.check()
                texts = [piece.text for piece in chunks[done : done + _EMBEDDED_CHUNKS]]
                unkept.append(await self.embedder.embed(texts))
                done += len(texts)
                self.progress.advance(lease, done)
                if len(unkept) * _EMBEDDED_CHUNKS >= _KEPT_CHUNKS and done < len(chunks):
                    vectors.append(await self._keep_vectors(lease, unkept))
                    unkept = []
        return np.concatenate([*vectors, *unkept])

    async def _kept_vectors(self, lease: Lease) -> list[Vectors]:
        """What a worker before made of a large document."""
        if lease.chunk_count is None or lease.chunk_count <= _KEPT_CHUNKS:
            return []
        async with self.transaction(lease) as session:
            batches = await documents.batches_of(session, lease.document_id, lease.version, self.embedder.name)
        return [np.frombuffer(batch.vectors, "<f4").reshape(batch.count, -1) for batch in batches]

    async def _keep_vectors(self, lease: Lease, batches: Sequence[Vectors]) -> Vectors:
        vectors = np.concatenate(batches).astype("<f4", copy=False)
        first_index = lease.done - len(vectors)
        async with self.transaction(lease) as session:
            await jobs.keep_batch(
                session, lease, first_index=first_index, model=self.embedder.name, vectors=vectors.tobytes()
            )
        return vectors

    async def _store(self, lease: Lease, document: Document, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        self.progress.enter(lease, "storing", total=len(chunks))
        project = self.store.project(lease.tenant_id, lease.project_id)
        with self.metrics.stage("storing"), span("store"):
            for first in range(0, len(chunks), _STORED_CHUNKS):
                lease.check()
                last = min(first + _STORED_CHUNKS, len(chunks))
                await project.upsert(
                    [_point(lease, document, chunks[index], vectors[index]) for index in range(first, last)]
                )
                self.progress.advance(lease, last)
        lease.check()


async def _chunked(extracted: Extracted) -> list[Chunk]:
    def split() -> list[Chunk]:
        return chunk(extracted.text, content_type=extracted.content_type, pages=extracted.pages)

    # Splitting runs at hundreds of megabytes a second; only a book would be felt by the event loop.
    return split() if len(extracted.text) <= _INLINE_CHARACTERS else await asyncio.to_thread(split)


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
    }


def _point(lease: Lease, document: Document, piece: Chunk, vector: Vectors) -> ChunkPoint:
    return ChunkPoint(
        document_id=lease.document_id,
        version=lease.version,
        chunk_index=piece.index,
        vector=vector,
        text=piece.text,
        content_type=document.content_type,
        created_at=document.created_at,
        metadata=document.attributes,
    )


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
