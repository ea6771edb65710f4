"""Prometheus metrics of searches: where their time goes, and what their responses lacked."""

from services.indexing.search.progress import Progress
from shared.metrics import Instruments


class SearchMetrics:
    """The instruments of one process."""

    def __init__(self, metrics: Instruments) -> None:
        self._service = metrics.service
        self._stages = metrics.histogram("search_stage_seconds", "Seconds that searches spend in a stage.", "stage")
        self._partial = metrics.counter("search_partial", "Searches whose response lacked something.", "reason")

    def answered(self, progress: Progress) -> None:
        """A search has its response: a failed one says nothing about how long a stage takes."""
        for stage, milliseconds in progress.milliseconds.items():
            self._stages.labels(self._service, stage).observe(milliseconds / 1000)
        for reason in progress.missing:
            self._partial.labels(self._service, reason).inc()
