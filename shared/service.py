"""What a service is made of: its application, its connections and its background work, in one lifespan.

A service's `main.py` gives settings, routers and `resources`: a context manager that creates the service's own objects
and yields them with its event handlers. Requests find them, and what every service has, in the lifespan's state
(`shared.lifespan_state`). Everything is closed in reverse order at shutdown.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import aiohttp
from fastapi import APIRouter, FastAPI
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from shared import db, service_client, telemetry
from shared.auth import ServiceTokens, TokenVerifier
from shared.authority_client import Authority
from shared.background import run_in_background
from shared.backpressure import Backlog
from shared.delivery import Dispatcher
from shared.events.envelope import producer_of
from shared.events.subscriptions import INVALIDATORS
from shared.gauges import Gauges, Source
from shared.handlers import AnyHandler
from shared.health import Check, Unready
from shared.health import router as health_router
from shared.http_semantics import RequestRules
from shared.invalidations.owner import Owner
from shared.invalidations.router import router as invalidations_router
from shared.janitor import Janitor
from shared.metrics import Metrics, RequestMetrics
from shared.operator_api import metrics_router
from shared.operator_api import router as operators_router
from shared.problems import install_problem_documents
from shared.redis_clients import command_client, stream_of
from shared.redrive import Redriver
from shared.relay import Relay
from shared.request_context import RequestContext
from shared.session_dependencies import install_database_problems
from shared.settings import DatabaseSettings, Role, SettingsError
from shared.stream_consumer import Consumer
from shared.tenancy import Database

_log = telemetry.get_logger(__name__)


@dataclass(slots=True)
class Runtime:
    """What every running service has. `sources` are read for its metrics; `checks` say whether it is ready."""

    settings: DatabaseSettings
    database: Database
    redis: Redis
    http: aiohttp.ClientSession
    verifier: TokenVerifier
    tokens: ServiceTokens
    authority: Authority
    metrics: Metrics
    invalidations: Owner
    checks: dict[str, Check] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)


SettingsT = TypeVar("SettingsT", bound=DatabaseSettings)
ResourcesT = TypeVar("ResourcesT")
Started = tuple[ResourcesT, Sequence[AnyHandler]]
"""The resources of a service, and its event handlers."""
MakeResources = Callable[[SettingsT, Runtime], AbstractAsyncContextManager[Started[ResourcesT]]]


def create_app(
    settings: SettingsT, *, routers: Sequence[APIRouter], resources: MakeResources[SettingsT, ResourcesT]
) -> FastAPI:
    """The ASGI application of a service. Connections are made when it starts, not when it is imported."""
    telemetry.configure(settings)
    metrics = Metrics(settings.service)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[Mapping[str, object]]:
        async with (
            _run(settings, metrics) as runtime,
            resources(settings, runtime) as (own, handlers),
            _background(runtime, handlers),
        ):
            _log.info("service_started", roles=", ".join(sorted(settings.roles)))
            yield {
                "checks": runtime.checks,
                "database": runtime.database,
                "invalidations": runtime.invalidations,
                "metrics": runtime.metrics,
                "resources": own,
                "verifier": runtime.verifier,
            }
        _log.info("service_stopped")
        telemetry.flush()

    # `RequestContext` makes the server span; FastAPI's own would be a second one for every request.
    app = FastAPI(
        title=f"Quarry {settings.service}",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False},
    )
    included = [health_router, metrics_router]
    if Role.HTTP in settings.roles:
        included += [*routers, operators_router]
        if settings.service in INVALIDATORS:
            included.append(invalidations_router)
    app.add_middleware(RequestRules, routers=included)
    app.add_middleware(RequestMetrics, metrics=metrics)
    app.add_middleware(RequestContext)
    install_problem_documents(app)
    install_database_problems(app)
    for router in included:
        app.include_router(router)
    return app


@asynccontextmanager
async def _run(settings: DatabaseSettings, metrics: Metrics) -> AsyncIterator[Runtime]:
    async with AsyncExitStack() as stack:
        engines = await db.connect(settings)
        stack.push_async_callback(engines.dispose)
        redis = command_client(settings.redis_url.get_secret_value())
        stack.push_async_callback(redis.aclose)
        http = await stack.enter_async_context(service_client.new_session())
        secret = settings.service_secret.get_secret_value()
        tokens = ServiceTokens(settings.service, secret, settings.identity_url, http)
        database = Database(engines, backlog=Backlog(settings.outbox_backlog_limit))
        runtime = Runtime(
            settings=settings,
            database=database,
            redis=redis,
            http=http,
            verifier=TokenVerifier(settings.service, settings.identity_url, http),
            tokens=tokens,
            authority=Authority(settings.identity_url, tokens, http),
            metrics=metrics,
            invalidations=Owner(database),
        )
        runtime.checks["postgres"] = lambda: _check_postgres(engines)
        runtime.checks["redis"] = lambda: _check_redis(redis)
        await _refuse_eviction(redis)
        yield runtime


@asynccontextmanager
async def _background(runtime: Runtime, handlers: Sequence[AnyHandler]) -> AsyncIterator[None]:
    """The relay in every process (one leads), the consumer where the role says so."""
    settings = runtime.settings
    relay = Relay(settings.service, runtime.database, runtime.redis, runtime.metrics)
    runtime.database.on_outbox_commit(relay.wake)
    runtime.metrics.watch_leading(lambda: relay.leading)
    async with AsyncExitStack() as stack:
        streams = sorted({stream_of(producer_of(handler.event.type)) for handler in handlers})
        system = runtime.database.engines.system
        gauges = Gauges(settings.service, system, runtime.redis, reads=streams, more=runtime.sources)
        stack.push_async_callback(gauges.close)
        stack.enter_context(runtime.metrics.including(gauges))
        janitor = Janitor(settings.service, runtime.database, runtime.redis, leads=lambda: relay.leading)
        watch = partial(runtime.database.backlog.watch, system)
        if settings.service in INVALIDATORS:
            runtime.database.on_invalidation(runtime.invalidations.wait)
            work = runtime.invalidations.run
            await stack.enter_async_context(run_in_background(work, name="invalidations"))
        for name, work in (("relay", relay.run), ("janitor", janitor.run), ("backlog", watch)):
            await stack.enter_async_context(run_in_background(work, name=name))
        if handlers and Role.EVENTS in settings.roles:
            consumer = Consumer(
                settings.service,
                settings.redis_url.get_secret_value(),
                runtime.database,
                handlers,
                idle_ms=settings.bus_idle_ms,
                metrics=runtime.metrics,
            )
            await consumer.start()
            stack.push_async_callback(consumer.stop)
            runtime.checks["streams"] = consumer.check
            redriver = Redriver(
                runtime.database, Dispatcher(runtime.database, handlers, runtime.metrics).apply_again, runtime.metrics
            )
            await stack.enter_async_context(run_in_background(redriver.run, name="redriver"))
        yield


async def _check_postgres(engines: db.Engines) -> None:
    try:
        async with engines.runtime.connect() as connection:
            await connection.execute(select(text("1")))
    except SQLAlchemyError as error:
        raise Unready(f"{type(error).__name__}: {str(error)[:200]}") from error


async def _check_redis(redis: Redis) -> None:
    await redis.ping()


async def _refuse_eviction(redis: Redis) -> None:
    """Streams must never be evicted. An unreachable Redis does not stop the start: it is transport only."""
    try:
        policy = (await redis.info("memory")).get("maxmemory_policy")
    except RedisError as error:
        _log.warning("redis_unreachable_at_start", reason=str(error)[:200])
        return
    if policy != "noeviction":
        raise SettingsError(f"Redis evicts keys ({policy}): set maxmemory-policy noeviction, or events are lost")
