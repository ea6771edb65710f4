"""A running system whose services reach Postgres and Redis through fault proxies, each service through its own."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

from infra.local.home import Home
from infra.local.services import ServiceProcess
from infra.local.stack import Stack
from shared.topology import SERVICES
from tests.faults.proxy import HOST, Connect, FaultProxy, tcp, unix
from tests.support.servers import servers as chosen_servers
from tests.support.stacks import migrate_all
from tests.support.system import System

POSTGRES: Final = "postgres"
REDIS: Final = "redis"
_PORTS: Final = {POSTGRES: 5432, REDIS: 6379}
_VARIABLES: Final = {POSTGRES: ("DATABASE_URL", "SYSTEM_DATABASE_URL"), REDIS: ("REDIS_URL",)}


@dataclass(frozen=True, slots=True)
class Link:
    """Which connection a proxy carries."""

    service: str
    server: str


@dataclass(slots=True)
class ProxiedSystem:
    """A system and the proxies between its parts."""

    system: System
    proxies: Mapping[Link, FaultProxy]

    def of(self, server: str, *services: str) -> list[FaultProxy]:
        """The proxies in front of `server`, of all services or of those named."""
        return [
            proxy
            for link, proxy in self.proxies.items()
            if link.server == server and (not services or link.service in services)
        ]

    async def heal(self) -> None:
        for proxy in self.proxies.values():
            await proxy.heal()


@asynccontextmanager
async def proxied_system(
    folder: Path,
    *,
    servers: Iterable[str] = (POSTGRES, REDIS),
    durable: bool = False,
    extra: Mapping[str, Mapping[str, str]] | None = None,
    redis_settings: Mapping[str, str] | None = None,
    postgres_settings: Mapping[str, str] | None = None,
) -> AsyncIterator[ProxiedSystem]:
    """Start everything in `folder` with a proxy per service and server; `extra` adds to single environments."""
    async with AsyncExitStack() as held:
        log = held.enter_context((folder / "system.log").open("w", buffering=1, encoding="utf-8"))
        stack = Stack(
            Home(folder),
            durable=durable,
            redis_settings=redis_settings,
            postgres_settings=postgres_settings,
            on_line=lambda name, line: print(f"{name} | {line}", file=log),
            servers=chosen_servers(),
        )
        await held.enter_async_context(stack)
        await migrate_all(stack)
        proxies: dict[Link, FaultProxy] = {}
        services: dict[str, ServiceProcess] = {}
        for name in SERVICES:
            environment = {"QUARRY_LOG_FORMAT": "json", **(extra or {}).get(name, {})}
            for server in servers:
                if name == "gateway" and server == POSTGRES:
                    continue
                proxy = await held.enter_async_context(FaultProxy(upstream_of(stack, server)))
                proxies[Link(name, server)] = proxy
                environment |= proxied_environment(stack, name, server, proxy.port)
            services[name] = stack.service(name, environment)
        await asyncio.gather(*(service.start() for service in services.values()))
        await asyncio.gather(*(service.wait_ready() for service in services.values()))
        yield ProxiedSystem(System(stack, services, held), proxies)


def proxied_environment(stack: Stack, service: str, server: str, port: int) -> dict[str, str]:
    """What changes in a service's environment for it to reach `server` on a loopback port.

    The address is the stack's own but for the place: accounts and passwords stay, in a file where they were in one.
    """
    environment = stack.environment(service)
    changed: dict[str, str] = {}
    for name in _VARIABLES[server]:
        variable = f"QUARRY_{service.upper()}_{name}"
        if path := environ_file(environment, variable):
            secret = f"proxied.{service}.{name.lower()}"
            url = moved(Path(path).read_text(encoding="utf-8").strip(), port)
            changed[f"{variable}_FILE"] = str(stack.home.secrets.put(secret, url))
        else:
            changed[variable] = moved(environment[variable], port)
    return changed


def environ_file(environment: Mapping[str, str], variable: str) -> str | None:
    """The file that holds a variable's value; the variable itself would win over it."""
    return None if variable in environment else environment[f"{variable}_FILE"]


def moved(url: str, port: int) -> str:
    """The same account and database on a loopback port."""
    parts = urlsplit(url)
    account, at, _ = parts.netloc.rpartition("@")
    place = f"{account}{at}{HOST}:{port}"
    if parts.scheme == "unix":
        database = parse_qs(parts.query).get("db", ["0"])[0]
        return urlunsplit(("redis", place, f"/{quote(database)}", "", ""))
    if parts.scheme.startswith("redis"):
        return urlunsplit((parts.scheme, place, parts.path, parts.query, ""))
    # host= and port= of the query name a socket.
    return urlunsplit((parts.scheme, place, parts.path, "", ""))


def upstream_of(stack: Stack, server: str) -> Connect:
    """The way to a server: through its socket, or to its port."""
    address = urlsplit(stack.redis.url() if server == REDIS else stack.postgres.admin_dsn())
    if address.scheme == "unix":
        return unix(unquote(address.path))
    if address.hostname is None:
        query = parse_qs(address.query)
        return unix(Path(query["host"][0]) / f".s.PGSQL.{query['port'][0]}")
    return tcp(address.hostname, address.port or _PORTS[server])
