"""Leases on jobs, across tenants: choice, heartbeat, release. Runs as the system role.

Guarantees: a job has at most one valid lease. Each lease has a fencing token greater than all before it, and every
write of a worker names its token, so a worker that was frozen past its lease cannot write. A lease that is not renewed
expires after `seconds`, and the job is chosen again.

Fair choice: among tenants with work waiting, the one with the fewest jobs running, then the job that has waited
longest. The preferred lane goes first; workers prefer `interactive`, and `bulk` at every fourth choice, so neither
starves. Jobs found to take long have places of their own, and tenants that hold their maximum of a process's places
are skipped there (see `worker_places`).

Cost does not grow with the length of the queue: tenants are found by skipping along the index, and for each only the
`_LOOK_AHEAD` oldest jobs of a lane and kind are looked at.
"""

import asyncio
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import BigInteger, Boolean, Interval, String, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.jobs.errors import CancelRequested, LeaseLost
from shared.events.indexing import Stage
from shared.events.projects import Lane

_LOOK_AHEAD = 8
# How many of the best jobs are tried before giving up because other workers hold them all.
_CONTENDERS = 32
_NOBODY: Mapping[bool, Collection[uuid.UUID]] = {False: (), True: ()}


@dataclass(slots=True)
class Lease:
    """One worker's hold on one job. `stage`, `done` and `total` are what the next heartbeat reports.

    taken_over_in: the stage in which the previous worker lost the job, None when it was waiting.
    long_running: which kind of place it holds; see `worker_places`.
    valid_until: by this process's clock; past it nothing may be written, whatever the database still says.
    next_tick: when progress within a stage may be reported again.
    """

    tenant_id: uuid.UUID
    job_id: uuid.UUID
    project_id: uuid.UUID
    document_id: uuid.UUID
    version: int
    token: int
    attempts: int
    deferrals: int
    announced: bool
    cancel_requested: bool
    long_running: bool
    chunk_count: int | None
    traceparent: str | None
    correlation_id: str | None
    uploaded_at: datetime | None
    taken_over_in: str | None
    total: int
    valid_until: float
    stage: Stage = "extracting"
    done: int = 0
    lost: bool = False
    next_tick: float = 0.0

    def check(self) -> None:
        """Called between steps and before every effect.

        Raises:
            LeaseLost: another worker has the job, or may have it by now.
            CancelRequested: the work is no longer wanted.
        """
        if self.lost or asyncio.get_running_loop().time() >= self.valid_until:
            raise LeaseLost
        if self.cancel_requested:
            raise CancelRequested


_TAKE_NEXT = text(
    """
    WITH RECURSIVE waiting (tenant_id) AS (
        (SELECT tenant_id FROM jobs WHERE state = 'queued' ORDER BY tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT next.tenant_id FROM jobs next
                WHERE next.state = 'queued' AND next.tenant_id > waiting.tenant_id
                ORDER BY next.tenant_id LIMIT 1)
        FROM waiting WHERE waiting.tenant_id IS NOT NULL
    ),
    busy AS (
        SELECT tenant_id, count(*) AS jobs FROM jobs
        WHERE state IN ('extracting', 'chunking', 'embedding', 'storing') AND lease_expires_at > now()
        GROUP BY tenant_id
    ),
    candidates AS (
        SELECT oldest.* FROM waiting
        CROSS JOIN (VALUES ('interactive'), ('bulk')) AS lanes (lane)
        CROSS JOIN unnest(:kinds) AS kinds (long_running)
        CROSS JOIN LATERAL (
            SELECT tenant_id, id, lane, long_running, next_run_at FROM jobs
            WHERE tenant_id = waiting.tenant_id AND state = 'queued' AND lane = lanes.lane
              AND long_running = kinds.long_running AND next_run_at <= now()
            ORDER BY next_run_at LIMIT :look_ahead
        ) oldest
        UNION ALL
        SELECT tenant_id, id, lane, long_running, next_run_at FROM jobs
        WHERE state IN ('extracting', 'chunking', 'embedding', 'storing') AND lease_expires_at <= now()
          AND long_running = ANY (:kinds)
    ),
    best AS (
        SELECT candidates.tenant_id, candidates.id, candidates.lane = :preferred AS preferred,
               coalesce(busy.jobs, 0) AS busy, candidates.next_run_at
        FROM candidates LEFT JOIN busy ON busy.tenant_id = candidates.tenant_id
        WHERE candidates.tenant_id <> ALL (CASE WHEN candidates.long_running THEN :full_of_long ELSE :full END)
        ORDER BY preferred DESC, busy, candidates.next_run_at
        LIMIT :contenders
    ),
    chosen AS (
        SELECT job.tenant_id, job.id
        FROM best JOIN jobs job ON job.tenant_id = best.tenant_id AND job.id = best.id
        -- Again, on the row as it is once locked; written so that no index can answer it, only the key above.
        WHERE CASE WHEN job.state = 'queued' THEN job.next_run_at
                   WHEN job.state IN ('extracting', 'chunking', 'embedding', 'storing') THEN job.lease_expires_at
              END <= now()
        ORDER BY best.preferred DESC, best.busy, best.next_run_at
        LIMIT 1
        FOR UPDATE OF job SKIP LOCKED
    )
    UPDATE jobs SET
        state = CASE WHEN jobs.chunk_count IS NULL THEN 'extracting' ELSE 'embedding' END,
        lease_owner = :owner,
        lease_expires_at = now() + :duration,
        fencing_token = jobs.fencing_token + 1,
        attempts = jobs.attempts + 1,
        progress_done = 0,
        progress_total = coalesce(jobs.chunk_count, jobs.size),
        updated_at = now()
    FROM chosen
    WHERE jobs.tenant_id = chosen.tenant_id AND jobs.id = chosen.id
    RETURNING jobs.tenant_id, jobs.id AS job_id, jobs.project_id, jobs.document_id, jobs.version,
              jobs.fencing_token AS token, jobs.attempts, jobs.deferrals, jobs.started_at IS NOT NULL AS announced,
              jobs.cancel_requested, jobs.long_running, jobs.chunk_count, jobs.progress_total AS total,
              jobs.traceparent, jobs.correlation_id, jobs.uploaded_at, nullif(old.state, 'queued') AS taken_over_in
    """
).bindparams(
    bindparam("kinds", type_=ARRAY(Boolean)),
    bindparam("full", type_=ARRAY(Uuid)),
    bindparam("full_of_long", type_=ARRAY(Uuid)),
    bindparam("preferred", type_=String),
    bindparam("owner", type_=String),
    bindparam("duration", type_=Interval),
    bindparam("look_ahead", _LOOK_AHEAD, BigInteger),
    bindparam("contenders", _CONTENDERS, BigInteger),
)

_RENEW = text(
    """
    UPDATE jobs SET
        lease_expires_at = now() + :duration,
        state = beat.state,
        progress_done = beat.done,
        progress_total = beat.total
    FROM unnest(:tenants, :jobs, :tokens, :states, :done, :totals) AS beat (tenant_id, id, token, state, done, total)
    WHERE jobs.tenant_id = beat.tenant_id AND jobs.id = beat.id AND jobs.fencing_token = beat.token
      AND jobs.state IN ('extracting', 'chunking', 'embedding', 'storing')
    RETURNING jobs.id, jobs.fencing_token, jobs.cancel_requested
    """
).bindparams(
    bindparam("duration", type_=Interval),
    bindparam("tenants", type_=ARRAY(Uuid)),
    bindparam("jobs", type_=ARRAY(Uuid)),
    bindparam("tokens", type_=ARRAY(BigInteger)),
    bindparam("states", type_=ARRAY(String)),
    bindparam("done", type_=ARRAY(BigInteger)),
    bindparam("totals", type_=ARRAY(BigInteger)),
)

_RELEASE = text(
    """
    UPDATE jobs SET state = 'queued', lease_owner = NULL, lease_expires_at = NULL, attempts = jobs.attempts - 1
    FROM unnest(:tenants, :jobs, :tokens) AS held (tenant_id, id, token)
    WHERE jobs.tenant_id = held.tenant_id AND jobs.id = held.id AND jobs.fencing_token = held.token
      AND jobs.state IN ('extracting', 'chunking', 'embedding', 'storing')
    """
).bindparams(
    bindparam("tenants", type_=ARRAY(Uuid)),
    bindparam("jobs", type_=ARRAY(Uuid)),
    bindparam("tokens", type_=ARRAY(BigInteger)),
)

_LONG_ONES_WAIT = text(
    """
    SELECT EXISTS (
        SELECT FROM jobs
        WHERE state = 'queued' AND long_running AND next_run_at <= now() AND tenant_id <> ALL (:but)
    )
    """
).bindparams(bindparam("but", type_=ARRAY(Uuid)))

_OWNERS = text(
    """
    SELECT DISTINCT lease_owner FROM jobs
    WHERE state IN ('extracting', 'chunking', 'embedding', 'storing') AND lease_expires_at > now()
    """
)

_EXPIRE = text(
    """
    UPDATE jobs SET lease_expires_at = now()
    WHERE state IN ('extracting', 'chunking', 'embedding', 'storing') AND lease_owner = ANY (:owners)
    """
).bindparams(bindparam("owners", type_=ARRAY(String)))


async def take_next(
    session: AsyncSession,
    *,
    owner: str,
    seconds: float,
    preferred: Lane,
    full: Mapping[bool, Collection[uuid.UUID]] = _NOBODY,
) -> Lease | None:
    """Lease the next job, or None when nothing is due.

    Args:
        full: the kinds of job to choose from, False for short ones and True for long ones, and which tenants are left
            out of each.
    """
    asked = asyncio.get_running_loop().time()
    values = {
        "owner": owner,
        "duration": timedelta(seconds=seconds),
        "preferred": preferred,
        "kinds": list(full),
        "full": list(full.get(False, ())),
        "full_of_long": list(full.get(True, ())),
    }
    row = (await session.execute(_TAKE_NEXT, values)).mappings().one_or_none()
    if row is None:
        return None
    stage: Stage = "extracting" if row["chunk_count"] is None else "embedding"
    return Lease(**row, valid_until=asked + seconds, stage=stage)


async def renew(session: AsyncSession, leases: Collection[Lease], *, seconds: float) -> None:
    """Heartbeat of all of a worker's leases at once; marks each that was lost or whose job should stop."""
    asked = asyncio.get_running_loop().time()
    held = {
        **_keys(leases),
        "duration": timedelta(seconds=seconds),
        "states": [lease.stage for lease in leases],
        "done": [lease.done for lease in leases],
        "totals": [lease.total for lease in leases],
    }
    kept = {(row.id, row.fencing_token): row.cancel_requested for row in await session.execute(_RENEW, held)}
    for lease in leases:
        lease.lost = (lease.job_id, lease.token) not in kept
        lease.cancel_requested = kept.get((lease.job_id, lease.token), False)
        if not lease.lost:
            lease.valid_until = asked + seconds


async def release(session: AsyncSession, leases: Collection[Lease]) -> None:
    """Give jobs back at an orderly shutdown; the attempt does not count."""
    await session.execute(_RELEASE, _keys(leases))


async def long_ones_wait(session: AsyncSession, *, but: Collection[uuid.UUID]) -> bool:
    """Whether jobs that take long are due, of tenants other than these."""
    return bool(await session.scalar(_LONG_ONES_WAIT, {"but": list(but)}))


async def owners(session: AsyncSession) -> list[str]:
    """Who holds leases now."""
    return list(await session.scalars(_OWNERS))


async def expire(session: AsyncSession, dead_owners: Collection[str]) -> None:
    """End the leases of workers known to be dead, instead of waiting for them to run out."""
    await session.execute(_EXPIRE, {"owners": list(dead_owners)})


def _keys(leases: Collection[Lease]) -> dict[str, object]:
    return {
        "tenants": [lease.tenant_id for lease in leases],
        "jobs": [lease.job_id for lease in leases],
        "tokens": [lease.token for lease in leases],
    }
