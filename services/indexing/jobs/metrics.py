"""Prometheus metrics of jobs: each worker reports its own work, every process the state of the queue.

The queue is read from Postgres across tenants as the system role, by the two partial indexes that hold unfinished jobs:
the cost of a scrape grows with the queue, not with all that was ever indexed.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.indexing.jobs.models import UNFINISHED
from shared.events.indexing import Stage
from shared.gauges import Sample, Source
from shared.metrics import Instruments

Outcome = Literal["indexed", "failed", "cancelled", "postponed", "gave_way", "lost"]

_STAGE_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_SEARCHABLE_SECONDS: Final = (0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)

# Literals, so that the partial indexes are used. A job is due from its next run on, or when its lease has expired.
_UNFINISHED: Final = text(
    """
    SELECT state, count(*) AS jobs, extract(epoch FROM now() - min(due)) AS age
    FROM (
        SELECT state, next_run_at AS due FROM jobs WHERE state = 'queued'
        UNION ALL
        SELECT state, lease_expires_at FROM jobs WHERE state IN ('extracting', 'chunking', 'embedding', 'storing')
    ) AS unfinished
    GROUP BY state
    """
)


class JobMetrics:
    """The instruments of one worker."""

    def __init__(self, metrics: Instruments) -> None:
        self._service = metrics.service
        self._stages = metrics.histogram(
            "job_stage_seconds", "Seconds that jobs spend in a stage.", "stage", buckets=_STAGE_SECONDS
        )
        self._ended = metrics.counter("jobs_ended", "Jobs that a worker has stopped working on, by outcome.", "outcome")
        self._searchable = metrics.histogram(
            "upload_to_searchable_seconds", "Seconds from an upload until search finds it.", buckets=_SEARCHABLE_SECONDS
        )
        self._searchable.labels(self._service)
        self._slots = metrics.gauge("job_slots", "Maximum number of jobs the worker runs at a time.")
        self._busy = metrics.gauge("job_slots_busy", "Jobs the worker is running.")

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Measure the block if it succeeds: an interrupted stage says nothing about how long a stage takes."""
        began = time.perf_counter()
        yield
        self._stages.labels(self._service, stage).observe(time.perf_counter() - began)

    def searchable(self, uploaded_at: datetime | None) -> None:
        """A version can be found. `uploaded_at` is by the receiving service's clock; None: no client waits."""
        if uploaded_at is not None:
            seconds = (datetime.now(UTC) - uploaded_at).total_seconds()
            self._searchable.labels(self._service).observe(max(0.0, seconds))

    def ended(self, outcome: Outcome) -> None:
        self._ended.labels(self._service, outcome).inc()

    def watch(self, slots: int, busy: Callable[[], int]) -> None:
        """Call `busy` at every scrape for how many of the `slots` have a job."""
        self._slots.labels(self._service).set(slots)
        self._busy.labels(self._service).set_function(busy)


def queue_source(system: AsyncEngine) -> Source:
    """How many jobs are in each unfinished state, and how long the oldest of them has been due."""

    async def read() -> Sequence[Sample]:
        async with system.connect() as connection:
            rows = (await connection.execute(_UNFINISHED)).all()
        jobs = dict.fromkeys(UNFINISHED, 0) | {row.state: row.jobs for row in rows}
        age = max((float(row.age) for row in rows), default=0.0)
        return (
            *(Sample("quarry_jobs", float(number), (state,)) for state, number in jobs.items()),
            Sample("quarry_job_queue_age_seconds", max(0.0, age)),
        )

    families = {
        "quarry_jobs": ("Unfinished jobs.", ("state",)),
        "quarry_job_queue_age_seconds": ("Seconds the oldest waiting job has been due, 0 if there is none.", ()),
    }
    return Source("jobs", families, read)
