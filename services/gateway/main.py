"""The gateway: the only public entry. `uvicorn --factory services.gateway.main:create_app --http
services.gateway.http_protocol:GuardedProtocol --no-proxy-headers`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from services.gateway import runtime
from services.gateway.answers import AnswerHeaders, crash_handler
from services.gateway.metrics import GatewayMetrics, GatewayRequests, exposed
from services.gateway.proxy import proxy
from services.gateway.replicas import Lookup, by_dns
from services.gateway.router import router
from services.gateway.settings import GatewaySettings
from shared import telemetry
from shared.health import health_router
from shared.http import RequestContext, install_problem_documents

_log = telemetry.get_logger(__name__)


def create_app(lookup: Lookup = by_dns) -> FastAPI:
    """The ASGI application. Connections are made when it starts, not when it is imported. `lookup` finds replicas."""
    settings = GatewaySettings.load()
    telemetry.configure(settings)
    metrics = GatewayMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with runtime.run(settings, lookup) as app.state.runtime, exposed(settings, metrics, app.state.runtime):
            _log.info("service_started")
            yield
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
    app.add_middleware(AnswerHeaders, settings=settings)
    app.add_middleware(GatewayRequests, metrics=metrics)
    app.add_middleware(RequestContext)
    install_problem_documents(app)
    app.add_exception_handler(Exception, crash_handler(settings))
    app.include_router(health_router(app))
    app.include_router(router)
    app.mount("/", proxy)
    return app
