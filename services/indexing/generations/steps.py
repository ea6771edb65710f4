"""The steps of a generation: comparing its points with the chunks in Postgres, the switch, and its end.

A new generation is built by comparing: what differs from its chunks is everything at first. Each walk over the
project's documents hands those that differ to the point writer; when a walk finds none and none is waiting, search is
switched. The active one is compared the same way once in a while, and then from the other side: points of documents
that are deleted, or of generations that no longer exist, are removed. So a store that lost points, or all of them, gets
them back, and going back to an older generation is building the rest of it.

Guarantees: bounded steps, each recorded before the next (`position`); a process that ends anywhere is succeeded by
another. Search goes on reading the active generation until the switch, and a generation that was replaced keeps its
points for `kept_for`: searches that began with it find them.
Does not guarantee: that the points of the same chunk are equal. What is compared is which chunks have points.
Fails by: waiting, with backoff; `Generation.error` says for what.
"""

import asyncio
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import func

from services.indexing.documents import repository as documents
from services.indexing.generations import repository, service
from services.indexing.generations.identity import Identity
from services.indexing.generations.metrics import GenerationMetrics
from services.indexing.generations.models import Generation, GenerationDocument
from services.indexing.generations.queues import GENERATIONS
from services.indexing.generations.repository import LiveVersion
from services.indexing.tenant_turns import TURN_SECONDS
from services.indexing.vectors.points import VersionPoints
from services.indexing.vectors.store import ProjectVectors, VectorStore
from services.indexing.work_priority import BackgroundWork, UrgentWork
from shared.bounded_deletes import delete_some
from shared.errors import Conflict
from shared.failpoints import failpoint
from shared.telemetry import get_logger
from shared.tenancy import Database

_DOCUMENTS: Final = 50
_IDS: Final = 500
_POINTS: Final = 500
# While so many documents wait, no more are looked for.
_WAITING: Final = 500
_DROPPED: Final = 128
_PIECES: Final = 3
# Less than a turn: a page of large documents is cut off, and goes on with the next turn.
_SECONDS: Final = 5.0
_PAUSE: Final = timedelta(milliseconds=500)

_log = get_logger(__name__)

BEFORE_SWITCH = failpoint("generations.before_switch", "all points of a new generation written, search not switched")
AFTER_SWITCH = failpoint("generations.after_switch", "search switched, the generation before kept")


@dataclass(frozen=True, slots=True)
class Intervals:
    """How long a replaced generation is kept, and after which time the active one is compared again."""

    kept_for: timedelta
    check: timedelta


class GenerationSteps:
    """One for a process. `target`: what new generations are made with."""

    def __init__(
        self,
        database: Database,
        store: VectorStore,
        target: Identity,
        intervals: Intervals,
        metrics: GenerationMetrics,
        urgent: UrgentWork,
    ) -> None:
        self._database = database
        self._store = store
        self._target = target
        self._intervals = intervals
        self._metrics = metrics
        self._background = BackgroundWork(urgent)

    async def turn(self, generation: Generation) -> None:
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._step(generation)
        except Exception as error:
            async with self._database.tenant(generation.tenant_id) as session:
                await repository.note_error(session, generation.project_id, generation.number, error)
            raise

    async def _step(self, generation: Generation) -> None:
        if generation.state == "kept":
            await self._expire(generation)
        elif generation.state == "dropping":
            await self._drop(generation)
        elif generation.requested is not None:
            await self._grant(generation)
        elif generation.phase == "documents":
            await self._compare_documents(generation)
        else:
            await self._compare_points(generation)

    # --- comparing ---------------------------------------------------------------------------------------------------

    async def _compare_documents(self, generation: Generation) -> None:
        """A page of documents, and at the end of them what follows from the walk."""
        async with self._database.tenant(generation.tenant_id) as session:
            waiting = await repository.lacking(session, generation.project_id, generation.number, most=_WAITING)
            total = generation.total
            if total is None:
                total = await repository.total_chunks(session, generation.project_id)
            versions = await repository.live_versions(
                session, generation.project_id, after=generation.position, limit=_DOCUMENTS
            )
        if waiting >= _WAITING or (not versions and waiting):
            await self._wait(generation, total)
            return
        if not versions:
            await self._end_walk(generation)
            return
        vectors, ends = self._vectors(generation), time.monotonic() + _SECONDS
        missing, done, last = [], 0, None
        for version in versions:
            present = await self._present(vectors, generation, version)
            if present < version.chunks:
                missing.append(version.document_id)
            else:
                done += version.chunks
            last = version.document_id
            if time.monotonic() >= ends:
                break
        async with self._database.tenant(generation.tenant_id) as session:
            # In a transaction of its own: a writer locks the document's row before the generation's.
            await repository.enqueue(session, generation.project_id, generation.number, missing)
        if generation.state == "active":
            self._metrics.differed("missing", len(missing))
        async with self._database.tenant(generation.tenant_id) as session:
            row = await GENERATIONS.held(session, generation)
            row.total, row.position, row.differed = total, last, row.differed + len(missing)
            row.attempts, row.due_at, row.error = 0, func.now(), None
            if row.state == "building" and row.done < total:
                row.done = min(total, row.done + done)

    async def _present(self, vectors: ProjectVectors, generation: Generation, version: LiveVersion) -> int:
        points = VersionPoints(version.document_id, version.version, generation.number)
        present = 0
        for first in range(0, version.chunks, _IDS):
            last = min(first + _IDS, version.chunks)
            async with self._background.piece():
                present += await vectors.present(points, first, last, dimensions=generation.dimensions)
        return present

    async def _wait(self, generation: Generation, total: int) -> None:
        """For the point writer."""
        async with self._database.tenant(generation.tenant_id) as session:
            row = await GENERATIONS.held(session, generation)
            row.total, row.attempts, row.due_at = total, 0, func.now() + _PAUSE

    async def _end_walk(self, generation: Generation) -> None:
        if generation.state == "building" and not generation.differed:
            await self._switch(generation)
            return
        async with self._database.tenant(generation.tenant_id) as session:
            row = await GENERATIONS.held(session, generation)
            if row.state == "building":
                service.begin_comparing(row)
            else:
                row.phase, row.position, row.attempts, row.due_at = "points", None, 0, func.now()

    async def _switch(self, generation: Generation) -> None:
        await self._store.flush()
        await BEFORE_SWITCH.reach()
        async with self._database.tenant(generation.tenant_id) as session:
            switched = await service.switch(
                session, generation, kept_for=self._intervals.kept_for, next_check=self._intervals.check
            )
            if not switched:
                service.begin_comparing(await GENERATIONS.held(session, generation))
        if switched:
            await AFTER_SWITCH.reach()
            self._metrics.switched()
            _log.info("generation_switched", project_id=str(generation.project_id), generation=generation.number)

    async def _compare_points(self, generation: Generation) -> None:
        """A page of points, of whatever generation: those that belong to nothing are removed."""
        vectors = self._vectors(generation)
        async with self._background.piece():
            points = await vectors.page(generation.position, limit=_POINTS, dimensions=generation.dimensions)
        async with self._database.tenant(generation.tenant_id) as session:
            known = await repository.states(session, {point.document_id for point in points})
            numbers = await repository.numbers(session, generation.project_id)
            surplus = set[uuid.UUID]()
            for point in points:
                live, indexing = known.get(point.document_id, (None, False))
                if not indexing and point.version != live:
                    surplus.add(point.document_id)
            for document_id in sorted(surplus & known.keys()):
                await documents.enqueue_vector_change(session, document_id)
        unknown = {point.generation for point in points} - numbers
        await self._remove(vectors, surplus - known.keys(), unknown)
        self._metrics.differed("surplus", len(surplus))
        async with self._database.tenant(generation.tenant_id) as session:
            row = await GENERATIONS.held(session, generation)
            row.attempts, row.error, row.due_at = 0, None, func.now()
            if len(points) == _POINTS:
                row.position = points[-1].point_id
                return
            if row.differed:
                _log.warning("vectors_repaired", project_id=str(row.project_id), documents=row.differed)
            row.phase, row.position, row.differed = "documents", None, 0
            row.checked_at, row.due_at = func.now(), func.now() + self._intervals.check

    async def _remove(
        self, vectors: ProjectVectors, strangers: Collection[uuid.UUID], unknown: Collection[int]
    ) -> None:
        """Points of documents and generations that Postgres knows nothing about; a page of each at most, the rest when
        the walk comes to it."""
        for document_id in strangers:
            async with self._background.piece():
                await vectors.delete_document(document_id, at_most=_DROPPED)
        for number in unknown:
            async with self._background.piece():
                await vectors.delete_generation(number, at_most=_POINTS)

    # --- beginning and end -------------------------------------------------------------------------------------------

    async def _grant(self, generation: Generation) -> None:
        """Do what an operator asked for, if it can be done now."""
        async with self._database.tenant(generation.tenant_id) as session:
            row = await GENERATIONS.held(session, generation)
            made = Identity(row.embedder, row.dimensions, row.analyzer)
            wanted = row.state == "active" and (row.requested != "outdated" or made != self._target)
            requested, row.requested, row.attempts, row.due_at = row.requested, None, 0, func.now()
        if not wanted:
            return
        try:
            async with self._database.tenant(generation.tenant_id) as session:
                if requested == "rollback":
                    await service.roll_back(session, project_id=generation.project_id)
                else:
                    await service.request(session, project_id=generation.project_id, identity=self._target)
        except Conflict as error:
            _log.warning("reindex_refused", project_id=str(generation.project_id), code=error.code)

    async def _expire(self, generation: Generation) -> None:
        async with self._database.tenant(generation.tenant_id) as session:
            row = await GENERATIONS.held(session, generation)
            if row.state == "kept":
                row.state, row.kept_until, row.attempts, row.due_at = "dropping", None, 0, func.now()

    async def _drop(self, generation: Generation) -> None:
        """Remove some of its points; at the end the row."""
        vectors, left = self._vectors(generation), True
        for _ in range(_PIECES):
            async with self._background.piece():
                left = await vectors.delete_generation(generation.number, at_most=_DROPPED) == _DROPPED
            if not left:
                break
        async with self._database.tenant(generation.tenant_id) as session:
            of_it = (
                GenerationDocument.project_id == generation.project_id,
                GenerationDocument.number == generation.number,
            )
            rows_left = await delete_some(session, GenerationDocument, *of_it)
        async with self._database.tenant(generation.tenant_id) as session:
            row = await GENERATIONS.held(session, generation)
            if left or rows_left:
                row.attempts, row.due_at = 0, func.now()
            else:
                await session.delete(row)

    def _vectors(self, generation: Generation) -> ProjectVectors:
        return self._store.project(generation.tenant_id, generation.project_id)
