"""The gateway: the only public entry. `uvicorn --factory services.gateway.main:create_app --http
services.gateway.inbound.http_protocol:GuardedProtocol --no-proxy-headers`."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI

from services.gateway.access_log_limits import AccessLogBudget
from services.gateway.metrics import GatewayMetrics, GatewayRequests
from services.gateway.openapi.router import router
from services.gateway.proxy.app import proxy
from services.gateway.resources import resources
from services.gateway.response_headers import ResponseHeaders, crash_handler
from services.gateway.settings import GatewaySettings
from services.gateway.upstreams.replicas import Lookup, by_dns
from shared import telemetry
from shared.health import router as health_router
from shared.http_semantics import RequestRules
from shared.problems import install_problem_documents
from shared.request_context import RequestContext

_log = telemetry.get_logger(__name__)


def create_app(lookup: Lookup = by_dns) -> FastAPI:
    """The ASGI application. Connections are made when it starts, not when it is imported. `lookup` finds replicas."""
    settings = GatewaySettings.load()
    telemetry.configure(settings)
    metrics = GatewayMetrics()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[Mapping[str, object]]:
        async with resources(settings, metrics, lookup) as own:
            _log.info("service_started")
            # The connections are for the server's protocol.
            yield {"checks": own.checks, "connections": own.connections, "resources": own}
        _log.info("service_stopped")
        telemetry.flush()

    app = FastAPI(
        title="Quarry gateway",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # RequestContext makes the server span of a request; a second one costs a sixth of the time of a short request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    routers = (health_router, router)
    app.add_middleware(RequestRules, routers=routers)
    app.add_middleware(ResponseHeaders, settings=settings)
    app.add_middleware(GatewayRequests, metrics=metrics)
    app.add_middleware(RequestContext, continue_trace=False, is_logged=AccessLogBudget().is_logged)
    install_problem_documents(app)
    app.add_exception_handler(Exception, crash_handler(settings))
    for each in routers:
        app.include_router(each)
    app.mount("/", proxy)
    return app
