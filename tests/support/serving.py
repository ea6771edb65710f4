"""Applications under test: over real HTTP on loopback, or in process."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from shared.health import Unready
from shared.lifespan_state import from_lifespan, resources_of
from shared.settings import ServiceSettings
from shared.tenancy import Database
from tests.support.polling import eventually

S = TypeVar("S", bound=ServiceSettings)
T = TypeVar("T")

_services: list["StartedApp"] = []


@dataclass(frozen=True, slots=True)
class StartedApp:
    """An application inside its lifespan, itself an application: it gives the lifespan's state to each request, as a
    server does, and may be served without being started a second time."""

    app: FastAPI
    state: dict[str, Any]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        scope["state"] = {**scope.get("state", {}), **self.state}
        await self.app(scope, receive, send)

    @property
    def database(self) -> Database:
        return self.found("database", Database)

    def found(self, name: str, kind: type[T]) -> T:
        """What the lifespan yields under `name`."""
        return from_lifespan({"state": self.state}, name, kind)

    def resources(self, kind: type[T]) -> T:
        """The service's own."""
        return resources_of({"state": self.state}, kind)


@asynccontextmanager
async def started(app: FastAPI) -> AsyncIterator[StartedApp]:
    """Inside the block, `app` runs."""
    async with app.router.lifespan_context(app) as state:
        yield StartedApp(app, dict(state or {}))


@asynccontextmanager
async def serve(app: Any, port: int = 0) -> AsyncIterator[str]:
    """Serve an ASGI application on a loopback port, a free one unless given; gives its base URL."""
    # Named as TCP: asyncio turns Nagle's algorithm off only then, and every answer would wait 40 ms.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(
        app, log_config=None, http="httptools", ws="none", lifespan="on", timeout_graceful_shutdown=2, access_log=False
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(30):
            while not server.started:
                if task.done():
                    await task
                    raise RuntimeError("the application did not start")
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


class _Server(uvicorn.Server):
    """Leaves the signal handlers of the test process alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def in_process(
    factory: Callable[[], FastAPI], environment: Mapping[str, str]
) -> AsyncIterator[tuple[StartedApp, httpx.AsyncClient]]:
    """Make an application with `environment`, run its lifespan, and give it with a client that calls it directly."""
    async with started(make_app(factory, environment)) as app:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            with kept_in_step(app):
                yield app, client


@contextmanager
def kept_in_step(app: StartedApp) -> Iterator[None]:
    """For the length of the block, `all_in_step` waits for the service as well."""
    _services.append(app)
    try:
        yield
    finally:
        _services.remove(app)


async def all_in_step() -> None:
    """Wait until every service under test may use its copies of what others own.

    Its lease is renewed about once a second, which needs the event loop: that of the tests stands still during those
    that are not asynchronous, and for as long as whatever else the machine does holds it up.
    """

    async def in_step() -> bool:
        try:
            for check in [app.state["checks"].get("copies") for app in _services]:
                if check is not None:
                    await check()
        except Unready:
            return False
        return True

    await eventually(in_step, within=30)


def make_app(factory: Callable[[], FastAPI], environment: Mapping[str, str]) -> FastAPI:
    """Call an application factory that reads its settings from the process environment."""
    with quarry_environment(environment):
        return factory()


@contextmanager
def quarry_environment(environment: Mapping[str, str]) -> Iterator[None]:
    """Inside the block the process environment has these `QUARRY_` variables and no others."""
    before = {name: value for name, value in os.environ.items() if name.startswith("QUARRY_")}
    for name in before:
        del os.environ[name]
    os.environ.update(environment)
    try:
        yield
    finally:
        for name in environment:
            os.environ.pop(name, None)
        os.environ.update(before)


def make_settings(kind: type[S], environment: Mapping[str, str]) -> S:
    """Load settings from `environment` instead of the test process's own."""
    with quarry_environment(environment):
        return kind.load()
