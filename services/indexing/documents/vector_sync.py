"""Applies pending vector changes, so that the store's points follow the documents' rows; also removes the rows of
deleted documents and tenants.

Guarantees: a change recorded in Postgres reaches the store, however often either is down or killed; a document's points
are then those of its live version and of versions being indexed now. Repeating is harmless: the row says what should
be, not what to do. Tenants take turns: a turn is one change of one tenant and a few bounded pieces of it, and goes on
later. Pieces give way to work that users wait for. A change that waits or fails does not delay other tenants' changes.
When nothing is left of a deleted document, that is told, once.
Does not guarantee: an order among the changes of a tenant.
Fails by: waiting. A change that failed is retried with backoff (`shared.work_queue`).

No row is locked while the store works, so events and requests about the document never wait for it. A change that grew
meanwhile has another revision and stays. While points are deleted no version begins (`keep_from_beginning`), or points
that it writes could be among them; a version going live is among those kept already.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents import erasure, repository, vector_changes
from services.indexing.documents.models import Document, VectorChange
from services.indexing.generations import repository as generations
from services.indexing.jobs import repository as jobs
from services.indexing.pipeline.chunk_context import found_by
from services.indexing.pipeline.documents import Chunk
from services.indexing.tenant_turns import TURN_SECONDS, TenantTurns
from services.indexing.vectors.errors import InvalidPoint
from services.indexing.vectors.points import USUAL_LENGTH, ChunkWords
from services.indexing.vectors.store import VectorStore
from services.indexing.work_priority import BackgroundWork, UrgentWork
from shared import outbox
from shared.events.indexing import IndexPurged
from shared.failpoints import failpoint
from shared.telemetry import get_logger
from shared.tenancy import Database

PIECE: Final = 128
"""How many points are changed before the next caller's turn at the store."""

_TENANTS_AT_ONCE: Final = 4
_PIECES: Final = 3
_HELD: Final = timedelta(seconds=1)

HasRuns = Callable[[AsyncSession, uuid.UUID], Awaitable[bool]]
"""Whether there are runs that were given text of a document."""

_log = get_logger(__name__)

AFTER_RECONCILE = failpoint("vectors.after_reconcile", "points deleted, still pending")


@dataclass(slots=True)
class _Turn:
    """How far a change is: once `removed`, `position` is that of describing. Of a deleted document nothing is left once
    `removed`, but for what others still hold (`held`)."""

    removed: bool
    position: uuid.UUID | None
    finished: bool = False
    deleted: bool = False
    held: bool = False


class VectorSync:
    """`run` goes on until cancelled. `wake()` makes it look at once instead of at the next poll."""

    def __init__(
        self, database: Database, store: VectorStore, has_runs: HasRuns, urgent: UrgentWork | None = None
    ) -> None:
        self._database = database
        self._store = store
        self._has_runs = has_runs
        self._background = BackgroundWork(urgent or UrgentWork())
        self._turns = TenantTurns(
            database, vector_changes.QUEUE, self._advance, name="vector-changes", tenants_at_once=_TENANTS_AT_ONCE
        )
        self.run, self.wake = self._turns.run, self._turns.wake

    async def _advance(self, change: VectorChange) -> None:
        turn = _Turn(removed=change.position is not None, position=change.position)
        async with asyncio.timeout(TURN_SECONDS):
            for _ in range(_PIECES):
                async with self._background.piece():
                    if not turn.removed:
                        turn.removed = await self._remove(change, turn)
                        turn.finished = turn.removed and (turn.deleted or not change.describe)
                    else:
                        turn.position = await self._describe(change, turn.position)
                        turn.finished = turn.position is None
                if turn.finished:
                    break
            await AFTER_RECONCILE.reach()
            async with self._database.tenant(change.tenant_id) as session:
                if turn.held:
                    await vector_changes.QUEUE.postpone(session, change, _HELD)
                elif turn.finished:
                    await self._settle(session, change, turn)
                else:
                    await vector_changes.go_on(session, change, turn.position)

    async def _settle(self, session: AsyncSession, change: VectorChange, turn: _Turn) -> None:
        """Also tells, once, that nothing is left of a deleted document. Locks the document before its change."""
        document = None
        if turn.deleted and change.document_id is not None:
            document = await repository.locked(session, change.document_id)
        if await vector_changes.settle(session, change) and document is not None and document.purged_at is None:
            document.purged_at = datetime.now(UTC)
            event = IndexPurged(
                project_id=document.project_id,
                document_id=document.document_id,
                points=document.removed_points,
                chunks=document.removed_chunks,
                batches=document.removed_batches,
            )
            outbox.publish(session, event, sequence=document.sequence)

    async def _remove(self, change: VectorChange, turn: _Turn) -> bool:
        """Remove a piece of the obsolete rows and points; returns whether none is left."""
        if change.document_id is None:
            async with self._database.tenant(change.tenant_id) as session:
                if not await erasure.erase_tenant(session):
                    return False
            return await self._store.tenant(change.tenant_id).delete_tenant(at_most=PIECE) < PIECE
        async with self._database.tenant(change.tenant_id) as session:
            await repository.keep_from_beginning(session, change.document_id)
            document = await repository.by_id(session, change.document_id)
            if document is None:
                return True
            vectors = self._store.project(change.tenant_id, document.project_id)
            if document.deleted:
                points = await vectors.count(document.document_id)
                if not await erasure.erase_document(session, document, points=points):
                    return False
                turn.deleted = await vectors.delete_document(document.document_id, at_most=PIECE) < PIECE
                turn.held = turn.deleted and (
                    await erasure.is_held(session, document.document_id)
                    or await self._has_runs(session, document.document_id)
                )
                return turn.deleted
            kept = await jobs.unfinished_versions(session, document.document_id)
            if document.live_version is not None:
                kept.add(document.live_version)
            return await vectors.delete_versions_except(document.document_id, kept, at_most=PIECE) < PIECE

    async def _rename(self, document: Document) -> None:
        """Let the document be found by its name: the first chunk of the live version, in every generation."""
        if document.live_version is None:
            return
        async with self._database.tenant(document.tenant_id) as session:
            rows = await repository.chunks_from(session, document.document_id, document.live_version, first=0, limit=1)
            analyzers = await generations.analyzers(session, document.project_id)
        for row in rows:
            chunk = Chunk(*row)
            words = ChunkWords(
                text=chunk.text,
                context=found_by(document.name, chunk),
                average_length=document.average_length or USUAL_LENGTH,
            )
            vectors = self._store.project(document.tenant_id, document.project_id)
            await vectors.set_words(document.document_id, document.live_version, analyzers, words)

    async def _describe(self, change: VectorChange, position: uuid.UUID | None) -> uuid.UUID | None:
        """Set the document's name and metadata on a piece of the points after `position`; returns the last, None at the
        end."""
        assert change.document_id is not None  # noqa: S101  # only a document is described
        async with self._database.tenant(change.tenant_id) as session:
            document = await repository.by_id(session, change.document_id)
        if document is None or document.deleted:
            return None
        if position is None:
            await self._rename(document)
        vectors = self._store.project(change.tenant_id, document.project_id)
        try:
            return await vectors.set_metadata_after(
                position, document.document_id, document.attributes, name=document.name, language=document.language
            )
        except InvalidPoint as error:
            _log.warning("metadata_not_filterable", reason=str(error))
            return None
