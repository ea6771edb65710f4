"""A real gateway on loopback, before doubles of the four services and a real Redis of its own."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import uvicorn
from fastapi import FastAPI
from redis.asyncio import Redis

from infra.local import server_protocols
from services.gateway.dependencies import Resources
from services.gateway.inbound.http_protocol import GuardedProtocol
from services.gateway.main import create_app
from services.gateway.upstreams.replicas import Lookup, Replicas, by_dns
from shared.circuit_breaker import Breaker
from shared.lifespan_state import resources_of
from shared.redis_clients import command_client
from shared.topology import Backend
from tests.services.gateway.doubles import IdentityServiceDouble, ServiceDouble, Services
from tests.services.gateway.wire import Wire
from tests.support.servers import lone_redis
from tests.support.serving import make_app


@dataclass
class Gateway:
    url: str
    port: int
    app: FastAPI
    client: aiohttp.ClientSession
    server: uvicorn.Server
    wires: list[Wire] = field(default_factory=list)

    @property
    def resources(self) -> Resources:
        return resources_of({"state": self.server.lifespan.state}, Resources)

    def breaker(self, name: Backend) -> Breaker:
        """Of a service's only replica."""
        (replica,) = self.resources.upstreams[name].replicas.known
        return replica.breaker

    def move(self, name: Backend, url: str) -> None:
        """A service is somewhere else from now on, as if its address in the settings were another."""
        upstream = self.resources.upstreams[name]
        upstream.url, upstream.replicas = url, Replicas(name, url, by_dns)

    async def wire(self) -> Wire:
        """A raw connection to the gateway, closed when the gateway stops at the latest."""
        self.wires.append(await Wire.open(self.port))
        return self.wires[-1]


StartGateway = Callable[..., Awaitable[Gateway]]


@pytest.fixture(scope="session")
async def gateway_redis(folders: Callable[[str], Path]) -> AsyncIterator[server_protocols.Redis]:
    async with lone_redis(folders("gateway-redis")) as server:
        yield server


@pytest.fixture
async def redis(gateway_redis: server_protocols.Redis) -> AsyncIterator[Redis]:
    """A client of the gateway's Redis, empty at the start of the test."""
    client = command_client(gateway_redis.url())
    await client.flushdb()
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
async def running_services() -> AsyncIterator[Services]:
    async with AsyncExitStack() as stack:
        identity = IdentityServiceDouble("identity")
        await stack.enter_async_context(identity.serving())
        others = [
            await stack.enter_async_context(ServiceDouble(name).serving())
            for name in ("projects", "indexing", "notifier")
        ]
        yield Services(identity, *others)


@pytest.fixture
def services(running_services: Services) -> Services:
    """The doubles, knowing nobody."""
    for service in running_services.each():
        service.reset()
    return running_services


@pytest.fixture
async def start_gateway(
    services: Services, gateway_redis: server_protocols.Redis, redis: Redis
) -> AsyncIterator[StartGateway]:
    """Start a gateway; keyword arguments are settings that differ from the defaults. `lookup` finds replicas."""
    async with AsyncExitStack() as stack:

        async def start(lookup: Lookup = by_dns, **settings: object) -> Gateway:
            environment = {
                "QUARRY_GATEWAY_REDIS_URL": gateway_redis.url(),
                "QUARRY_GATEWAY_SERVICE_SECRET": "gateway secret",
                "QUARRY_GATEWAY_PUBLIC_URL": "http://quarry.test",
                **{f"QUARRY_GATEWAY_{item.name.upper()}_URL": item.url for item in services.each()},
                **{f"QUARRY_GATEWAY_{name.upper()}": str(value) for name, value in settings.items()},
            }
            return await stack.enter_async_context(_serve(make_app(partial(create_app, lookup), environment)))

        yield start


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> Gateway:
    return await start_gateway()


@asynccontextmanager
async def _serve(app: FastAPI) -> AsyncIterator[Gateway]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    # Without `serve`, which would take over the signal handlers of the test process.
    task = asyncio.create_task(server._serve(sockets=[listener]))
    try:
        async with asyncio.timeout(30):
            while not server.started:
                if task.done():
                    await task
                    raise RuntimeError("the gateway did not start")
                await asyncio.sleep(0.01)
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as client:
            gateway = Gateway(f"http://127.0.0.1:{port}", port, app, client, server)
            yield gateway
            for wire in gateway.wires:
                wire.close()
    finally:
        server.should_exit = True
        await task
        listener.close()
