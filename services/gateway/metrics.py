"""The gateway's metrics, and the separate port that exposes them.

The only port of the gateway is public, so metrics have another, which is not published: a server for `GET /metrics` and
nothing else, within the lifespan, on `QUARRY_GATEWAY_METRICS_PORT`. Without that setting there is none. It needs no
credential; no label holds a tenant, an id or a path that a client chose.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from starlette.types import ASGIApp, Scope

from services.gateway import routes
from services.gateway.dependencies import Resources
from services.gateway.settings import GatewaySettings
from shared.circuit_breaker import State
from shared.metrics import CONTENT_TYPE, UNMATCHED, Instruments, Readings, RequestMetrics
from shared.settings import SettingsError

OWN_PATHS = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})


class GatewayMetrics(Instruments):
    """The instruments of a gateway: of requests as clients see them, and of the part that a service had in them."""

    def __init__(self) -> None:
        super().__init__("gateway")
        self._passed = self.counter("upstream_answers", "Responses of a service.", "upstream", "route", "status")
        self._passed_seconds = self.histogram(
            "upstream_seconds", "Seconds until a service's response began.", "upstream", "route"
        )

    def passed(self, upstream: str, route: str, status: str, seconds: float) -> None:
        """A service responded to a request after `seconds`; `status` is a class such as `2xx`."""
        self._passed.labels(self.service, upstream, route, status).inc()
        self._passed_seconds.labels(self.service, upstream, route).observe(seconds)


class GatewayRequests(RequestMetrics):
    """Middleware that counts requests by the routing table."""

    def __init__(self, app: ASGIApp, *, metrics: GatewayMetrics) -> None:
        super().__init__(app, metrics=metrics)
        self._of_gateway = metrics

    def note(self, scope: Scope, status: str, seconds: float) -> None:
        method, path = scope["method"], scope["path"]
        route = routes.match(method, path)
        if route is None:
            self._of_gateway.answered(method, path if path in OWN_PATHS else UNMATCHED, status, seconds)
            return
        template = route.template(path)
        self._of_gateway.answered(method, template, status, seconds)
        waited = scope["state"].get("timings", {}).get("upstream")
        if waited is not None:
            self._of_gateway.passed(route.upstream, template, status, waited)


class ResourceReadings(Readings):
    """What is under way, as it is at the moment of a scrape."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def refresh(self) -> None:
        """All of it is in memory."""

    def collect(self) -> Iterable[Metric]:
        resources = self._resources
        in_flight = _gauge("requests_in_flight", "Short requests and transfers in progress.", "upstream")
        waiting = _gauge("requests_waiting", "Requests waiting for a replica that responds.", "upstream")
        replicas = _gauge("replicas", "Known replicas of a service by circuit breaker state.", "upstream", "state")
        for upstream in resources.upstreams.values():
            in_flight.add_metric(["gateway", upstream.name], upstream.in_flight)
            waiting.add_metric(["gateway", upstream.name], upstream.waiting)
            states = [replica.breaker.state for replica in upstream.replicas.known]
            # None is known before the first request.
            for state in State if states else ():
                replicas.add_metric(["gateway", upstream.name, state.value], states.count(state))
        streams = _gauge("sse_open", "Open event streams.")
        streams.add_metric(["gateway"], resources.load_shedder.streams)
        entries = _gauge("token_cache_entries", "Entries in the token cache.")
        entries.add_metric(["gateway"], len(resources.cache))
        lookups = _counter("token_cache_lookups", "Lookups in the token cache.", "outcome")
        lookups.add_metric(["gateway", "hit"], resources.cache.hits)
        lookups.add_metric(["gateway", "miss"], resources.cache.misses)
        limited = _counter("rate_limited", "Requests refused by a rate limit.", "limit")
        for name, number in resources.gate.limited.items():
            limited.add_metric(["gateway", name], number)
        connections = _gauge("client_connections", "Open client connections.")
        connections.add_metric(["gateway"], len(resources.connections))
        shed = _counter(
            "client_connections_shed", "Client connections closed or refused because there were too many.", "how"
        )
        shed.add_metric(["gateway", "closed"], resources.connections.closed)
        shed.add_metric(["gateway", "refused"], resources.connections.refused)
        return in_flight, waiting, replicas, streams, entries, lookups, limited, connections, shed


@asynccontextmanager
async def exposed(settings: GatewaySettings, metrics: GatewayMetrics, resources: Resources) -> AsyncIterator[None]:
    """Serve scrapes for the length of the block, where a port is set for it.

    Raises:
        SettingsError: nothing can listen there.
    """
    with metrics.including(ResourceReadings(resources)):
        if settings.metrics_port is None:
            yield
            return

        async def scrape(_request: web.Request) -> web.Response:
            return web.Response(body=await metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

        server = web.Application()
        server.router.add_get("/metrics", scrape)
        runner = web.AppRunner(server, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await _listen(runner, settings.metrics_host, settings.metrics_port)
            yield
        finally:
            await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise SettingsError(f"QUARRY_GATEWAY_METRICS_PORT: cannot listen on {host}:{port}: {error.strerror}") from error


def _gauge(name: str, documentation: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"quarry_{name}", documentation, labels=["service", *labels])


def _counter(name: str, documentation: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"quarry_{name}", documentation, labels=["service", *labels])
