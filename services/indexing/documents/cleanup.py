"""Works off what the vector store is owed, so that its points follow the documents' rows.

Guarantees: a change noted in Postgres reaches the store, however often either is down or killed; a document's points
are then those of its live version and of versions being indexed now. Repeating is harmless: the row says what should
be, not what to do.
Fails by: waiting. A store that cannot answer is tried again with backoff.

The document stays locked while its points are changed, so no version goes live and none begins meanwhile.
"""

import asyncio
import uuid
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents import repository
from services.indexing.documents.models import VectorChange
from services.indexing.jobs import repository as jobs
from services.indexing.signals import Signal
from services.indexing.vectors.errors import InvalidPoint
from services.indexing.vectors.store import VectorStore
from shared.errors import Unavailable
from shared.failpoints import failpoint
from shared.resilience import Backoff
from shared.telemetry import bind, get_logger
from shared.tenancy import Database, tenant_of

POLL_SECONDS = 1.0
_BATCH = 50
_STORE_SECONDS = 5.0
# A claimed change is due again after so many seconds, and after twice as many each time, three times: two at once are
# harmless, and a change that never succeeds must not hold up the others.
_CLAIM_SECONDS = 3.0

_log = get_logger(__name__)


AFTER_RECONCILE = failpoint("vectors.after_reconcile", "points deleted, still owed")


@dataclass(frozen=True, slots=True)
class _Owed:
    tenant_id: uuid.UUID
    id: uuid.UUID
    document_id: uuid.UUID | None
    describe: bool


class Cleaner:
    """Runs until cancelled. `wake()` makes it look at once instead of at the next poll."""

    def __init__(self, database: Database, store: VectorStore) -> None:
        self._database = database
        self._store = store
        self.wake = Signal()

    async def run(self) -> None:
        backoff = Backoff(first=0.2, most=5.0)
        while True:
            try:
                while await self._work_off():
                    backoff.reset()
            except (Unavailable, SQLAlchemyError, OSError) as error:
                pause = backoff.next()
                _log.warning("vector_changes_delayed", reason=str(error)[:200], retry_in=round(pause, 2))
                await asyncio.sleep(pause)
            else:
                await self.wake.wait(POLL_SECONDS)

    async def _work_off(self) -> int:
        """One batch; how many changes it had."""
        changes = await self._claim()
        for change in changes:
            with bind(tenant_id=change.tenant_id, document_id=change.document_id):
                async with self._database.tenant(change.tenant_id) as session:
                    await self._reconcile(session, change)
                    await AFTER_RECONCILE.reach()
                    await session.execute(delete(VectorChange).where(VectorChange.id == change.id))
        return len(changes)

    async def _claim(self) -> list[_Owed]:
        again = _CLAIM_SECONDS * func.power(2, func.least(VectorChange.attempts, 3))
        due = (
            select(VectorChange.tenant_id, VectorChange.id)
            .where(VectorChange.due_at <= func.now())
            .order_by(VectorChange.due_at)
            .limit(_BATCH)
            .with_for_update(skip_locked=True)
            .cte("due")
        )
        async with self._database.system() as session:
            rows = await session.execute(
                update(VectorChange)
                .where(VectorChange.tenant_id == due.c.tenant_id, VectorChange.id == due.c.id)
                .values(
                    due_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, again), attempts=VectorChange.attempts + 1
                )
                .returning(VectorChange.tenant_id, VectorChange.id, VectorChange.document_id, VectorChange.describe)
                .execution_options(synchronize_session=False)
            )
            return [_Owed(*row) for row in rows]

    async def _reconcile(self, session: AsyncSession, change: _Owed) -> None:
        if change.document_id is None:
            async with asyncio.timeout(_STORE_SECONDS):
                await self._store.tenant(tenant_of(session)).delete_tenant()
            return
        document = await repository.locked(session, change.document_id)
        if document is None:
            return
        vectors = self._store.project(tenant_of(session), document.project_id)
        async with asyncio.timeout(_STORE_SECONDS):
            if document.deleted:
                await vectors.delete_document(document.document_id)
                return
            kept = await jobs.unfinished_versions(session, document.document_id)
            if document.live_version is not None:
                kept.add(document.live_version)
            await vectors.delete_versions_except(document.document_id, kept)
            if change.describe:
                try:
                    await vectors.set_metadata(document.document_id, document.attributes)
                except InvalidPoint as error:
                    _log.warning("metadata_not_filterable", reason=str(error))
