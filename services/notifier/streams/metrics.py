"""Prometheus metrics of the streams of one process; counted by `Connections`, read on scrape."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from services.notifier.streams.connections import Connections
from shared.metrics import Readings


class StreamReadings(Readings):
    """Open streams, frames written, and streams that ended by their reason: `too_slow` and `stuck` were cut off."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def refresh(self) -> None:
        """All of it is in memory."""

    def collect(self) -> Iterable[Metric]:
        of_service = ["service"]
        still_open = GaugeMetricFamily("quarry_sse_open", "Open event streams.", labels=of_service)
        still_open.add_metric(["notifier"], len(self._connections))
        frames = CounterMetricFamily("quarry_sse_frames", "Frames written to clients.", labels=of_service)
        frames.add_metric(["notifier"], self._connections.frames)
        ended = CounterMetricFamily("quarry_sse_ended", "Event streams that ended.", labels=[*of_service, "reason"])
        for reason, number in self._connections.ended.items():
            ended.add_metric(["notifier", reason.replace(" ", "_")], number)
        return still_open, frames, ended
