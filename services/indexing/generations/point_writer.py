"""Makes the points that a generation lacks, from the chunks in Postgres: a document at a time, in small batches.

Guarantees: once a document waits no longer (`GenerationDocument`), its generation has the points of its live version,
or it is deleted; wherever a process was killed. A batch that was noted is not made again. Points that are written late,
of a version that is no longer live, are removed by a vector change that is recorded with the next step.
Gives way to all work that users wait for: texts are embedded as background ones, and each write is a piece of
background work (`work_priority`). A tenant has one turn at a time (`tenant_turns`).
Fails by: waiting, with backoff; `Generation.error` says for what.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents import repository as documents
from services.indexing.documents.models import Document
from services.indexing.embedders.installed import Embedders
from services.indexing.generations import repository
from services.indexing.generations.chunk_points import point_of
from services.indexing.generations.metrics import GenerationMetrics
from services.indexing.generations.models import Generation, GenerationDocument
from services.indexing.generations.queues import DOCUMENTS
from services.indexing.pipeline.documents import Chunk
from services.indexing.tenant_turns import TURN_SECONDS
from services.indexing.vectors.points import USUAL_LENGTH
from services.indexing.vectors.store import VectorStore
from services.indexing.work_priority import BackgroundWork, UrgentWork
from shared.failpoints import failpoint
from shared.tenancy import Database
from shared.work_queue import ClaimLost

BATCH: Final = 32
"""Chunks embedded and written at a time."""

_TURN_SECONDS: Final = 5.0

AFTER_WRITE = failpoint("generations.after_write", "points of some chunks written, not noted")


@dataclass(frozen=True, slots=True)
class _Work:
    """What a turn is about, as it was when the turn began."""

    lack: GenerationDocument
    generation: Generation
    document: Document
    version: int
    first: int


class PointWriter:
    """One for a process."""

    def __init__(
        self,
        database: Database,
        store: VectorStore,
        embedders: Embedders,
        metrics: GenerationMetrics,
        urgent: UrgentWork,
    ) -> None:
        self._database = database
        self._store = store
        self._embedders = embedders
        self._metrics = metrics
        self._background = BackgroundWork(urgent)

    async def turn(self, lack: GenerationDocument) -> None:
        """Write as many batches as fit into a turn."""
        try:
            async with self._database.tenant(lack.tenant_id) as session:
                work = await self._begin(session, lack)
            if work is not None:
                await self._write(work)
        except ClaimLost:
            # Another process has the document, or it is done with. What was written here may be of another version.
            async with self._database.tenant(lack.tenant_id) as session:
                if await documents.tenant_exists(session):
                    await documents.enqueue_vector_change(session, lack.document_id)
            raise
        except Exception as error:
            async with self._database.tenant(lack.tenant_id) as session:
                await repository.note_error(session, lack.project_id, lack.number, error)
            raise

    async def _begin(self, session: AsyncSession, lack: GenerationDocument) -> _Work | None:
        """What is to be written; None if nothing is, and the document waits no longer."""
        generation = await repository.by_number(session, lack.project_id, lack.number)
        document = await documents.locked(session, lack.document_id, shared=True)
        wanted = generation is not None and generation.state in ("building", "active")
        if generation is None or not wanted or document is None or document.deleted or document.live_version is None:
            await self._end(session, lack, document)
            return None
        first = lack.next_chunk if lack.version == document.live_version else 0
        return _Work(lack, generation, document, document.live_version, first)

    async def _write(self, work: _Work) -> None:
        ends, first = time.monotonic() + _TURN_SECONDS, work.first
        while True:
            async with asyncio.timeout(TURN_SECONDS):
                chunks = await self._chunks(work, first)
                await self._write_batch(work, chunks)
                await AFTER_WRITE.reach()
                first += len(chunks)
                more = len(chunks) == BATCH
                async with self._database.tenant(work.lack.tenant_id) as session:
                    goes_on = await self._note(session, work, first, len(chunks), more=more)
                    turn_over = goes_on and time.monotonic() >= ends
                    if turn_over:
                        (await DOCUMENTS.held(session, work.lack)).due_at = func.now()
            if turn_over or not goes_on:
                return

    async def _chunks(self, work: _Work, first: int) -> list[Chunk]:
        async with self._database.tenant(work.lack.tenant_id) as session:
            rows = await documents.chunks_from(
                session, work.document.document_id, work.version, first=first, limit=BATCH
            )
        return [Chunk(*row) for row in rows]

    async def _write_batch(self, work: _Work, chunks: Sequence[Chunk]) -> None:
        if not chunks:
            return
        embedder = self._embedders.named(work.generation.embedder)
        tenant_id = work.lack.tenant_id
        vectors = await embedder.embed([chunk.searched for chunk in chunks], caller=tenant_id, background=True)
        points = [
            point_of(
                work.document,
                work.version,
                chunk,
                vector,
                generation=work.generation.current,
                language=work.document.language,
                average_length=work.document.average_length or USUAL_LENGTH,
            )
            for chunk, vector in zip(chunks, vectors, strict=True)
        ]
        async with self._background.piece():
            await self._store.project(tenant_id, work.lack.project_id).upsert(points)
        self._metrics.written(len(points))

    async def _note(self, session: AsyncSession, work: _Work, first: int, written: int, *, more: bool) -> bool:
        """Record how far the document is; returns whether it goes on. Locks the document before its row."""
        document = await documents.locked(session, work.lack.document_id, shared=True)
        if document is None or document.deleted or document.live_version != work.version:
            await documents.enqueue_vector_change(session, work.lack.document_id)
            await self._end(session, work.lack, document)
            return False
        lack = await DOCUMENTS.held(session, work.lack)
        if lack.revision != work.lack.revision:
            # Another reason came: from the first chunk again.
            lack.due_at = func.now()
            return False
        await repository.advance(session, work.lack.project_id, work.lack.number, written)
        if more:
            lack.version, lack.next_chunk, lack.attempts = work.version, first, 0
            await session.flush()
            await DOCUMENTS.renew(session, work.lack)
            return True
        await _describe(session, work, document)
        await DOCUMENTS.finish(session, work.lack)
        return False

    async def _end(self, session: AsyncSession, lack: GenerationDocument, document: Document | None) -> None:
        """Nothing of it is wanted; or it goes on with the version that is live now."""
        if lack.version is not None:
            await documents.enqueue_vector_change(session, lack.document_id)
        held = await DOCUMENTS.held(session, lack)
        if held.revision != lack.revision and document is not None and not document.deleted:
            held.due_at = func.now()
            return
        await session.delete(held)


async def _describe(session: AsyncSession, work: _Work, document: Document) -> None:
    """A name or metadata that changed while the points were written."""
    if document.described != work.document.described:
        await documents.enqueue_vector_change(session, work.lack.document_id, describe=True)
