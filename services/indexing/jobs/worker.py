"""The worker: takes jobs as places are free, keeps their leases alive, and records how each ended.

Guarantees: a job that was taken ends as indexed, failed or cancelled, or is taken again: after a transient error, or by
any worker once the lease expires. Attempts are counted when a job is taken, so a document that kills its workers also
uses them up. An orderly shutdown gives its jobs back at once.
Fails by: waiting. While Postgres cannot be reached no job is taken and leases expire by the worker's own clock.

`wake()` makes it look for jobs at once, `interrupt()` for requests to stop; polls and heartbeats cover commits of other
processes.
"""

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from services.indexing.jobs import leases, service
from services.indexing.jobs.errors import CancelRequested, GaveWay, JobStopped, LeaseLost
from services.indexing.jobs.failures import Failure, Verdict, delay_of, exhausted, judge
from services.indexing.jobs.lease_holders import is_dead
from services.indexing.jobs.leases import Lease
from services.indexing.jobs.worker_places import Places, Share
from services.indexing.pipeline.stages import Pipeline
from shared.background import run_in_background
from shared.events.projects import Lane
from shared.failpoints import failpoint
from shared.telemetry import SpanKind, bind, get_logger, mark_failed, span
from shared.tenancy import Database
from shared.wakeups import Signal
from shared.work_queue import keep_working

POLL_SECONDS: Final = 0.5
_BULK_EVERY: Final = 4
_SHUTDOWN_SECONDS: Final = 3.0

AFTER_TAKE = failpoint("jobs.after_take", "job leased, work not begun")

_log = get_logger(__name__)
_Key = tuple[uuid.UUID, int]


class Worker:
    """Runs until cancelled; works on as many jobs at a time as it has `places`."""

    def __init__(
        self,
        database: Database,
        pipeline: Pipeline,
        *,
        owner: str,
        places: Places,
        lease_seconds: float,
        max_attempts: int,
    ) -> None:
        self._database = database
        self._pipeline = pipeline
        self._owner = owner
        self._places = places
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts
        self.wake = Signal()
        self.interrupt = Signal()
        self._choices = 0
        self._stages: dict[_Key, asyncio.Task[None]] = {}
        self._jobs: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> int:
        """How many jobs it works on now."""
        return len(self._jobs)

    async def run(self) -> None:
        try:
            async with run_in_background(self._keep_leases, name="job-leases"):
                await self._expire_dead_owners()
                await keep_working(self._take, name="jobs", poll_seconds=POLL_SECONDS, wake=self.wake)
        finally:
            await self._stop()

    # --- taking jobs -------------------------------------------------------------------------------------------------

    async def _take(self) -> bool:
        """Begin the next job; False when none is due or no place is free."""
        if not self._places.free():
            return False
        preferred: Lane = "bulk" if self._choices % _BULK_EVERY == _BULK_EVERY - 1 else "interactive"
        full = {kind: self._places.full(kind) for kind in self._places.free()}
        async with self._database.system() as session:
            lease = await leases.take_next(
                session, owner=self._owner, seconds=self._lease_seconds, preferred=preferred, full=full
            )
        if lease is None:
            return False
        await AFTER_TAKE.reach()
        self._choices += 1
        task = asyncio.create_task(self._work(lease), name=f"job-{lease.job_id}")
        self._jobs.add(task)
        self._places.take(lease)
        task.add_done_callback(self._done)
        return True

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._jobs.discard(task)
        self.wake()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("job_crashed", task=task.get_name(), exc_info=error)

    async def _expire_dead_owners(self) -> None:
        """Expire the leases of dead workers, so that jobs do not wait after a kill and restart on the same machine."""
        try:
            async with self._database.system() as session:
                dead = [owner for owner in await leases.owners(session) if is_dead(owner)]
                if dead:
                    await leases.expire(session, dead)
        except (SQLAlchemyError, OSError) as error:
            _log.warning("dead_owners_unknown", reason=str(error)[:200])

    # --- leases ------------------------------------------------------------------------------------------------------

    async def _keep_leases(self) -> None:
        while True:
            if held := list(self._places.held.values()):
                try:
                    async with asyncio.timeout(self._lease_seconds / 3), self._database.system() as session:
                        await leases.renew(session, held, seconds=self._lease_seconds)
                except (SQLAlchemyError, OSError) as error:
                    _log.warning("leases_not_renewed", reason=str(error)[:200])
                self._interrupt(held)
            await self.interrupt.wait(self._lease_seconds / 3)

    def _interrupt(self, held: list[Lease]) -> None:
        """Extraction and embedding may take minutes, so they are cancelled instead of awaited."""
        for lease in held:
            stages = self._stages.get((lease.job_id, lease.token))
            if stages and lease.stage in ("extracting", "embedding") and (lease.lost or lease.cancel_requested):
                stages.cancel()

    # --- one job -----------------------------------------------------------------------------------------------------

    async def _work(self, lease: Lease) -> None:
        ids = {"tenant_id": lease.tenant_id, "job_id": lease.job_id, "document_id": lease.document_id}
        try:
            with (
                bind(**ids, request_id=lease.correlation_id),
                span("index document", parent=lease.traceparent, kind=SpanKind.CONSUMER) as current,
            ):
                error = await self._run_stages(lease)
                if error is None:
                    self._pipeline.metrics.ended("indexed")
                    _log.info("job_indexed", version=lease.version, chunks=lease.total)
                    return
                mark_failed(current, type(error).__name__)
                try:
                    await self._settle(lease, error)
                except LeaseLost:
                    self._pipeline.metrics.ended("lost")
                    _log.info("job_lost", version=lease.version, stage=lease.stage)
                except (SQLAlchemyError, OSError) as unsettled:
                    # The lease expires and the next worker finds the job as it was.
                    _log.warning("job_not_settled", stage=lease.stage, reason=str(unsettled)[:200])
        finally:
            self._places.leave(lease)

    async def _run_stages(self, lease: Lease) -> BaseException | None:
        if lease.attempts > self._max_attempts:
            return _Exhausted()
        key = (lease.job_id, lease.token)
        share = Share(self._places, lease, self._database, self.wake)
        stages = self._stages[key] = asyncio.create_task(self._pipeline.run(lease, share))
        try:
            await asyncio.wait([stages])
        finally:
            del self._stages[key]
            stages.cancel()
            await asyncio.wait([stages])
        if stages.cancelled():
            return LeaseLost() if lease.lost else CancelRequested()
        return stages.exception()

    async def _settle(self, lease: Lease, error: BaseException) -> None:
        if isinstance(error, LeaseLost):
            raise error
        if isinstance(error, JobStopped):
            async with self._pipeline.transaction(lease) as session:
                ended = await service.cancel(session, lease, gave_way=isinstance(error, GaveWay))
            if ended:
                self._pipeline.metrics.ended("cancelled")
                self._pipeline.progress.end(lease, "cancelled")
            elif isinstance(error, GaveWay):
                self._pipeline.metrics.ended("gave_way")
            return
        failure = judge(error)
        if isinstance(error, _Exhausted):
            failure = exhausted(lease.attempts - 1, None, lease.taken_over_in)
        last = failure.verdict is Verdict.COUNTED and lease.attempts >= self._max_attempts
        _log.warning(
            "job_failed", code=failure.code, stage=lease.stage, attempts=lease.attempts, detail=failure.detail,
            exc_info=error if failure.code == "internal_error" else None,
        )  # fmt: skip
        if last or failure.verdict is Verdict.PERMANENT:
            await self._fail(lease, exhausted(lease.attempts, failure, None) if last else failure, type(error).__name__)
        else:
            await self._postpone(lease, failure)

    async def _fail(self, lease: Lease, failure: Failure, error_name: str) -> None:
        evidence = {
            "stage": lease.stage,
            "attempts": lease.attempts,
            "error": error_name,
            "detail": failure.detail[:2000],
            "time": datetime.now(UTC).isoformat(),
        }
        async with self._pipeline.transaction(lease) as session:
            await service.fail(session, lease, code=failure.code, reason=failure.reason, evidence=evidence)
        self._pipeline.metrics.ended("failed")
        self._pipeline.progress.end(lease, "failed")

    async def _postpone(self, lease: Lease, failure: Failure) -> None:
        delay = delay_of(failure, attempts=lease.attempts, deferrals=lease.deferrals)
        async with self._pipeline.transaction(lease) as session:
            await service.postpone(
                session,
                lease,
                delay=delay,
                counted=failure.verdict is Verdict.COUNTED,
                code=failure.code,
                reason=failure.reason,
            )
        self._pipeline.metrics.ended("postponed")

    async def _stop(self) -> None:
        held = list(self._places.held.values())
        for task in self._jobs:
            task.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs)
        if not held:
            return
        try:
            async with asyncio.timeout(_SHUTDOWN_SECONDS), self._database.system() as session:
                await leases.release(session, held)
        except (SQLAlchemyError, OSError) as error:
            _log.warning("leases_not_released", reason=str(error)[:200])


class _Exhausted(Exception):
    """The job was taken more often than allowed."""
