"""The gateway: the only public entry. `uvicorn --factory services.gateway.main:create_app --http
services.gateway.inbound.http_protocol:GuardedProtocol --no-proxy-headers`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from services.gateway import runtime
from services.gateway.access_log_limits import AccessLogBudget
from services.gateway.inbound.connections import Connections
from services.gateway.metrics import GatewayMetrics, GatewayRequests, exposed
from services.gateway.openapi.router import router
from services.gateway.proxy.app import proxy
from services.gateway.response_headers import ResponseHeaders, crash_handler
from services.gateway.settings import GatewaySettings
from services.gateway.upstreams.replicas import Lookup, by_dns
from shared import telemetry
from shared.health import health_router
from shared.http import RequestContext, install_problem_documents
from shared.request_rules import RequestRules

_log = telemetry.get_logger(__name__)


def create_app(lookup: Lookup = by_dns) -> FastAPI:
    """The ASGI application. Connections are made when it starts, not when it is imported. `lookup` finds replicas."""
    settings = GatewaySettings.load()
    telemetry.configure(settings)
    metrics = GatewayMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Connections]]:
        async with runtime.run(settings, lookup) as app.state.runtime, exposed(settings, metrics, app.state.runtime):
            _log.info("service_started")
            # For the server's protocol, which has no other access to the application.
            yield {"connections": app.state.runtime.connections}
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
    own = (health_router(app), router)
    app.add_middleware(RequestRules, routers=own)
    app.add_middleware(ResponseHeaders, settings=settings)
    app.add_middleware(GatewayRequests, metrics=metrics)
    app.add_middleware(RequestContext, continue_trace=False, is_logged=AccessLogBudget().is_logged)
    install_problem_documents(app)
    app.add_exception_handler(Exception, crash_handler(settings))
    for each in own:
        app.include_router(each)
    app.mount("/", proxy)
    return app
