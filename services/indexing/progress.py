"""Progress ticks on their way to `events.progress`, the trimmed stream that every notifier replica reads.

Guarantees: reporting never waits and never fails; at most 10 ticks a second per job.
Does not guarantee: delivery. A full queue or an error of Redis drops ticks, with one log line per outage. Clients
learn what matters from durable events.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.indexing.jobs.leases import Lease
from shared.events.indexing import ProgressTick, Stage
from shared.failpoints import failpoint
from shared.redis_clients import PROGRESS_STREAM
from shared.telemetry import current_traceparent, get_logger

_KEPT_TICKS: Final = 10_000
_QUEUED_TICKS: Final = 1_000
_BATCH: Final = 200

BEFORE_TICKS = failpoint("progress.before_xadd", "ticks taken from the queue, not published")
# With at most seven changes of stage in a job's life this stays below ten a second.
_SECONDS_BETWEEN: Final = 0.25

Unit = Literal["bytes", "chunks"]

# Where each stage begins and ends, in percent. Embedding takes nearly all of the time.
_SPANS: Final[dict[Stage, tuple[int, int]]] = {
    "queued": (0, 0),
    "extracting": (0, 10),
    "chunking": (10, 12),
    "embedding": (12, 95),
    "storing": (95, 99),
    "indexed": (100, 100),
    "failed": (100, 100),
    "cancelled": (100, 100),
}

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """How far a job is, as clients see it."""

    percent: int
    done: int
    total: int
    unit: Unit


def read(stage: Stage, done: int, total: int) -> Reading:
    """`done` and `total` count bytes until there are chunks, and chunks from then on."""
    first, last = _SPANS[stage]
    share = min(done / total, 1.0) if total else 0.0
    return Reading(
        percent=first + int((last - first) * share),
        done=min(done, total),
        total=total,
        unit="bytes" if stage in ("queued", "extracting", "chunking") else "chunks",
    )


class ProgressPublisher:
    """Queue in front of the stream; `run` empties it until cancelled."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(_QUEUED_TICKS)
        self._failing = False

    def enter(self, lease: Lease, stage: Stage, *, total: int | None = None) -> None:
        """The job begins a stage."""
        lease.stage, lease.done = stage, 0
        lease.total = lease.total if total is None else total
        self._report(lease)

    def advance(self, lease: Lease, done: int) -> None:
        """The job got further within its stage."""
        lease.done = done
        if asyncio.get_running_loop().time() >= lease.next_tick:
            self._report(lease)

    def end(self, lease: Lease, outcome: Literal["indexed", "failed", "cancelled"]) -> None:
        lease.stage = outcome
        self._report(lease)

    def _report(self, lease: Lease) -> None:
        lease.next_tick = asyncio.get_running_loop().time() + _SECONDS_BETWEEN
        reading = read(lease.stage, lease.done, lease.total)
        tick = ProgressTick(
            tenant_id=lease.tenant_id,
            project_id=lease.project_id,
            document_id=lease.document_id,
            job_id=lease.job_id,
            stage=lease.stage,
            percent=reading.percent,
            done=reading.done,
            total=reading.total,
            unit=reading.unit,
            time=datetime.now(UTC),
            traceparent=current_traceparent(),
        )
        if not self._queue.full():
            self._queue.put_nowait(orjson.dumps(tick.model_dump(mode="json", exclude_none=True)))

    async def run(self) -> None:
        while True:
            ticks = [await self._queue.get()]
            while len(ticks) < _BATCH and not self._queue.empty():
                ticks.append(self._queue.get_nowait())
            await self._send(ticks)

    async def _send(self, ticks: list[bytes]) -> None:
        await BEFORE_TICKS.reach()
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for tick in ticks:
                    pipeline.xadd(PROGRESS_STREAM, {"tick": tick}, maxlen=_KEPT_TICKS, approximate=True)
                await pipeline.execute()
        except (RedisError, OSError) as error:
            if not self._failing:
                _log.warning("progress_not_published", reason=str(error)[:200])
            self._failing = True
        else:
            self._failing = False
