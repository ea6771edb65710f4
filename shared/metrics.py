"""What one process counts and measures, in Prometheus' text format at `GET /metrics`.

One `Metrics` belongs to one application: made with it, passed to whatever has something to count, never global. Every
series carries the service's name; HTTP requests are told apart by the template of their route, never by their path. No
label holds a tenant, an id or anything else that a client chooses.

What only Postgres or Redis know is read at each scrape, by `shared.gauges`.
"""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
UNMATCHED: Final = "unmatched"


class Readings(Collector):
    """Values that are read at each scrape."""

    @abstractmethod
    async def refresh(self) -> None:
        """Read them. Bounded in time, raises nothing that a source can cause."""


class Instruments:
    """The instruments of one application: those of HTTP, and what a service adds with `counter` and its neighbours.

    Every instrument has the label `service` first: `instrument.labels(service, ...)`. A name belongs to one instrument;
    asking for it again is an error.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self._registry = CollectorRegistry()
        self._readings: list[Readings] = []
        self._requests = self.counter("http_requests", "Requests by status.", "method", "route", "status")
        self._request_seconds = self.histogram(
            "http_request_seconds", "Seconds until the response began.", "method", "route"
        )

    def counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"quarry_{name}", documentation, ["service", *labels], registry=self._registry)

    def gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        return Gauge(f"quarry_{name}", documentation, ["service", *labels], registry=self._registry)

    def histogram(self, name: str, documentation: str, *labels: str, buckets: Sequence[float] = _SECONDS) -> Histogram:
        return Histogram(
            f"quarry_{name}", documentation, ["service", *labels], registry=self._registry, buckets=buckets
        )

    def answered(self, method: str, route: str, status: str, seconds: float) -> None:
        """Count a request; `status` is a class such as `2xx`, or `aborted`."""
        method = method if method in _METHODS else "OTHER"
        self._requests.labels(self.service, method, route, status).inc()
        self._request_seconds.labels(self.service, method, route).observe(seconds)

    @contextmanager
    def including(self, readings: Readings) -> Iterator[None]:
        """Inside the block, read `readings` at every scrape and expose them."""
        self._registry.register(readings)
        self._readings.append(readings)
        try:
            yield
        finally:
            self._readings.remove(readings)
            self._registry.unregister(readings)

    async def exposition(self) -> bytes:
        """Everything, in Prometheus' text format."""
        for readings in self._readings:
            await readings.refresh()
        return generate_latest(_WithoutCreationTimes(self._registry))


class Metrics(Instruments):
    """The instruments of a service that has a database, and so events."""

    def __init__(self, service: str) -> None:
        super().__init__(service)
        self._handled = self.counter("events_handled", "Events whose effect is committed.", "handler")
        self._failed = self.counter("events_failed", "Failed attempts of a handler.", "handler")
        self._handler_seconds = self.histogram("handler_seconds", "Seconds a handler takes per event.", "handler")
        self._quarantined = self.counter("dead_letters", "Dead letters stored.", "handler")
        self._redriven = self.counter("redrives", "Dead letters redriven.", "handler", "outcome")
        self._published = self.counter("events_published", "Events the relay added to the stream.")
        self._leading = self.gauge("relay_leading", "1 where this process leads the relay.")
        self._published.labels(service)
        self._leading.labels(service)

    @classmethod
    def unread(cls) -> "Metrics":
        """For objects made without metrics: counted, and never exposed."""
        return cls("unread")

    def handled(self, handler: str, seconds: float, events: int = 1) -> None:
        """`events` effects of `handler` were committed; together they took `seconds`."""
        self._handled.labels(self.service, handler).inc(events)
        measured = self._handler_seconds.labels(self.service, handler)
        for _ in range(events):
            measured.observe(seconds / events)

    def failed(self, handler: str) -> None:
        """One attempt of `handler` failed."""
        self._failed.labels(self.service, handler).inc()

    def quarantined(self, handler: str) -> None:
        """A dead letter of `handler` is stored."""
        self._quarantined.labels(self.service, handler).inc()

    def redriven(self, handler: str, *, failed: bool) -> None:
        self._redriven.labels(self.service, handler, "failed" if failed else "redriven").inc()

    def published(self, events: int) -> None:
        """The relay has published and marked `events`."""
        self._published.labels(self.service).inc(events)

    def watch_leading(self, leading: Callable[[], bool]) -> None:
        """Ask `leading` at every scrape whether this process leads the relay."""
        self._leading.labels(self.service).set_function(leading)


class _WithoutCreationTimes(Collector):
    """The library adds a `..._created` gauge to every counter and histogram: series that nobody reads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


class RequestMetrics:
    """Middleware that counts requests when their responses begin, and those that end without one. After that the client
    sets the pace."""

    def __init__(self, app: ASGIApp, *, metrics: Instruments) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        noted = False

        def note(status: str) -> None:
            nonlocal noted
            if not noted:
                noted = True
                self.note(scope, status, time.perf_counter() - began)

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                note(f"{message['status'] // 100}xx")
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception:
            note("5xx")
            raise
        finally:
            note("aborted")

    def note(self, scope: Scope, status: str, seconds: float) -> None:
        self._metrics.answered(scope["method"], _template(scope), status, seconds)


def _template(scope: Scope) -> str:
    """The path of the matched route with its parameters unfilled."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) and path else UNMATCHED
