"""The names of all metrics that Quarry exports, from the code that exports them; nothing has to run."""

import asyncio
import re
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client.metrics_core import Metric
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from services.gateway.admission.token_cache import TokenCache
from services.gateway.dependencies import Resources
from services.gateway.inbound.connections import Connections as ClientConnections
from services.gateway.metrics import GatewayMetrics, ResourceReadings
from services.indexing.agents.metrics import RunMetrics
from services.indexing.generations.metrics import GenerationMetrics, generations_source
from services.indexing.jobs.metrics import JobMetrics, queue_source
from services.indexing.search.metrics import SearchMetrics
from services.notifier.settings import NotifierSettings
from services.notifier.streams.connections import Connections
from services.notifier.streams.metrics import StreamReadings
from shared.gauges import Gauges
from shared.metrics import Instruments, Metrics, Readings

# What Prometheus makes of a histogram.
_SERIES = ("", "_bucket", "_count", "_sum")


def exported() -> set[str]:
    """Names as queries use them, `..._total` and `..._bucket` among them."""
    indexing, notifier, gateway = Metrics("indexing"), Metrics("notifier"), GatewayMetrics()
    JobMetrics(indexing)
    GenerationMetrics(indexing)
    SearchMetrics(indexing)
    RunMetrics(indexing)
    # Asked for nothing but the names of what they would read.
    engine, redis = cast(AsyncEngine, None), cast(Redis, None)
    sources = (queue_source(engine), generations_source(engine))
    resources: Any = SimpleNamespace(
        upstreams={},
        load_shedder=SimpleNamespace(streams=0),
        cache=TokenCache(lambda: False),
        gate=SimpleNamespace(limited={}),
        connections=ClientConnections(most=1, most_waiting=1),
    )
    return {
        *_named(indexing, _Unread(Gauges("indexing", engine, redis, reads=(), more=sources))),
        *_named(notifier, StreamReadings(Connections(NotifierSettings.model_construct()))),
        *_named(gateway, ResourceReadings(cast(Resources, resources))),
    }


class _Unread(Readings):
    """Readings of which nothing was read."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    async def refresh(self) -> None:
        """Nothing is asked."""

    def collect(self) -> Iterable[Metric]:
        return self._readings.collect()


def _named(instruments: Instruments, readings: Readings) -> set[str]:
    with instruments.including(readings):
        text = asyncio.run(instruments.exposition()).decode()
    found = re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE)
    return {f"{name}{suffix}" for name, kind in found for suffix in (_SERIES if kind == "histogram" else ("",))}
