"""Prometheus metrics of runs: what the worker in this process does."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from shared.events.indexing import RunStatus
from shared.metrics import Instruments

# Without a model a run takes a tenth of a second, with one up to minutes.
_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class RunMetrics:
    """The instruments of one worker."""

    def __init__(self, metrics: Instruments) -> None:
        self._service = metrics.service
        self._ended = metrics.counter("runs_ended", "Runs that a worker has ended, by status.", "agent", "status")
        self._seconds = metrics.histogram(
            "run_seconds", "Seconds from the creation of a run to its end.", "agent", buckets=_SECONDS
        )
        self._steps = metrics.histogram(
            "run_step_seconds", "Seconds that runs spend in a step.", "step", buckets=_SECONDS
        )
        self._slots = metrics.gauge("run_slots", "Maximum number of runs the worker executes at a time.")
        self._busy = metrics.gauge("run_slots_busy", "Runs the worker is executing.")

    @contextmanager
    def step(self, step: str) -> Iterator[None]:
        """Measure the block if it succeeds: an interrupted step says nothing about how long a step takes."""
        began = time.perf_counter()
        yield
        self._steps.labels(self._service, step).observe(time.perf_counter() - began)

    def ended(self, agent: str, status: RunStatus, created_at: datetime) -> None:
        self._ended.labels(self._service, agent, status).inc()
        seconds = (datetime.now(UTC) - created_at).total_seconds()
        self._seconds.labels(self._service, agent).observe(max(0.0, seconds))

    def watch(self, slots: int, busy: Callable[[], int]) -> None:
        """Call `busy` at every scrape for how many of the `slots` have a run."""
        self._slots.labels(self._service).set(slots)
        self._busy.labels(self._service).set_function(busy)
