"""The embedded stack: PostgreSQL, Redis and an OpenID provider over one folder, and the services that run against them.

    async with Stack(Home(folder), durable=False) as stack:
        await stack.migrate()
        projects = stack.service("projects")
        await projects.start()
        await projects.wait_ready()

Leaving the block stops whatever is still running, services first. Only one stack runs in a folder at a time; data stays
for the next. Servers run on their own between start and stop: an event loop may end and another take over.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Self

from infra.local.environment import (
    DEV_USER,
    Endpoints,
    database_url,
    owner_environment,
    process_environment,
    redis_passwords,
    role_passwords,
    service_environment,
)
from infra.local.errors import ProcessError
from infra.local.home import Home
from infra.local.ports import allocate
from infra.local.processes import LineSink, Process, stop_leftovers
from infra.local.server_protocols import MakeServers, Postgres, Redis, Server, ServerOptions
from infra.local.servers import OidcServer, PostgresServer, RedisServer
from infra.local.services import ServiceProcess
from infra.operator import migration_status
from infra.postgres.bootstrap import bootstrap
from infra.postgres.roles import DATABASE, Access
from shared.topology import SERVICES


class Stack:
    """Servers and services of one folder.

    Args:
        durable: False for tests: PostgreSQL does not wait for the disk.
        with_oidc: whether to run the OpenID provider.
        gateway_port: wanted port of the gateway; another is taken when it is not free.
        environ: what services inherit, this process's own environment by default.
        postgres_settings, redis_settings: further settings of the servers.
        servers: what runs PostgreSQL and Redis; by default the stack does, as processes of its own.
        on_line: called with (process name, line), from other threads, for every line any process writes.

    Attributes, from `start` on:
        postgres, redis, oidc: the servers; `oidc` is None when the stack runs without.
        ports: of every service, of the gateway's metrics and of the provider.
    """

    postgres: Postgres
    redis: Redis
    oidc: OidcServer | None
    ports: Mapping[str, int]

    def __init__(
        self,
        home: Home,
        *,
        durable: bool = True,
        with_oidc: bool = True,
        gateway_port: int | None = None,
        environ: Mapping[str, str] | None = None,
        postgres_settings: Mapping[str, str] | None = None,
        redis_settings: Mapping[str, str] | None = None,
        on_line: LineSink | None = None,
        servers: MakeServers | None = None,
    ) -> None:
        self.home = home
        self._with_oidc = with_oidc
        self._gateway_port = gateway_port
        self._base = dict(os.environ if environ is None else environ)
        self._options = ServerOptions(
            environ=self._base,
            durable=durable,
            postgres=postgres_settings or {},
            redis=redis_settings or {},
            on_line=on_line,
        )
        self._on_line = on_line
        self._make_servers = servers or embedded_servers
        self._held = contextlib.ExitStack()
        self._servers: list[Server] = []
        self._services: list[ServiceProcess] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the servers; make database, schemas and roles.

        Raises:
            StackError: the folder is in use, or a server does not come up. Whatever was started is stopped again.
        """
        self.home.prepare()
        self._held.enter_context(self.home.lock())
        try:
            await stop_leftovers(self.home.folder)
            self._prepare_servers()
            others = [server.start() for server in self._servers if server is not self.postgres]
            await _together(self._start_postgres(), *others)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the gateway, then the services behind it, then the servers; release the folder."""
        gateways = [service for service in self._services if service.name == "gateway"]
        others = [service for service in self._services if service.name != "gateway"]
        try:
            await _together(*(service.stop() for service in gateways))
            await _together(*(service.stop() for service in others))
            await _together(*(server.close() for server in self._servers))
        finally:
            self._services.clear()
            self._servers.clear()
            self.home.remove_sockets()
            self._held.close()

    @property
    def servers(self) -> Sequence[Server]:
        """The servers of this stack, from `start` on."""
        return tuple(self._servers)

    def kill(self) -> None:
        """`kill -9` to everything that runs, without waiting."""
        for process in (*self._services, *(server.process for server in self._servers)):
            process.kill()

    async def migrate(self, *, only_if_needed: bool = False) -> bool:
        """Apply the migrations of all services in a process of its own; returns whether it ran.

        Raises:
            ProcessError: a migration failed.
        """
        if only_if_needed and await migration_status.are_applied(self.home.root, self.postgres.admin_dsn(DATABASE)):
            return False
        await apply_migrations(self.home, self.postgres, self._base, self._on_line)
        return True

    def service(
        self, name: str, extra: Mapping[str, str] | None = None, *, factory: str | None = None
    ) -> ServiceProcess:
        """One of the services, not yet started, stopped with the stack. `extra` is added to its environment."""
        service = ServiceProcess(
            name,
            {**self.environment(name), **(extra or {})},
            self.ports[name],
            factory=factory,
            cwd=self.home.root,
            on_line=self._on_line,
        )
        self._services.append(service)
        return service

    def environment(self, service: str) -> dict[str, str]:
        """The whole environment of a service, for a process that the caller starts."""
        issuer = self.oidc.issuer if self.oidc is not None else None
        endpoints = Endpoints(postgres=self.postgres, redis=self.redis, ports=self.ports, issuer=issuer)
        return service_environment(service, self.home, endpoints, self._base)

    def database_url(self, service: str, access: Access = Access.RUNTIME, database: str = DATABASE) -> str:
        """`postgresql+asyncpg://...` of one of the roles of a service."""
        return database_url(self.home, self.postgres, service, access, database)

    async def bootstrap(self, database: str = DATABASE) -> None:
        """Make a database with the schemas of all services, e.g. one for each worker of a test run."""
        name = self.postgres.database_name(database)
        await bootstrap(self.postgres.admin_dsn(), role_passwords(self.home), database=name)

    async def _start_postgres(self) -> None:
        await self.postgres.start()
        await self.bootstrap()

    def _prepare_servers(self) -> None:
        home = self.home
        wanted = {"gateway": self._gateway_port} | {name: None for name in SERVICES if name != "gateway"}
        self.ports = allocate(home.ports_json, {**wanted, "gateway-metrics": None, "oidc": None})
        self.postgres, self.redis = self._make_servers(home, self._options)
        self.oidc = None
        if self._with_oidc:
            environment = process_environment(home, self._base)
            self.oidc = OidcServer(self.ports["oidc"], [DEV_USER], environment=environment, on_line=self._on_line)
        self._servers = [server for server in (self.postgres, self.redis, self.oidc) if server is not None]


def embedded_servers(home: Home, options: ServerOptions) -> tuple[PostgresServer, RedisServer]:
    """PostgreSQL and Redis as processes on Unix sockets, their data in the home."""
    postgres = make_postgres(
        home, options.environ, durable=options.durable, settings=options.postgres, on_line=options.on_line
    )
    redis = RedisServer(
        home.redis,
        home.sockets(),
        environment=process_environment(home, options.environ),
        passwords=redis_passwords(home),
        settings=options.redis,
        on_line=options.on_line,
    )
    return postgres, redis


def make_postgres(
    home: Home,
    base: Mapping[str, str],
    *,
    durable: bool = True,
    settings: Mapping[str, str] | None = None,
    on_line: LineSink | None = None,
) -> PostgresServer:
    """The PostgreSQL server of a folder, not started; its addresses also hold when another process runs it."""
    return PostgresServer(
        home.postgres,
        home.sockets(),
        home.secrets.get("postgres_password"),
        environment=process_environment(home, base),
        durable=durable,
        settings=settings,
        on_line=on_line,
    )


async def apply_migrations(
    home: Home, postgres: Postgres, base: Mapping[str, str], on_line: LineSink | None = None
) -> None:
    """Bring every service's schema to its newest migration.

    Raises:
        ProcessError: a migration failed.
    """
    upgrade = Process(
        "migrate",
        [sys.executable, "-m", "infra.operator.migrate"],
        env=owner_environment(home, postgres, base),
        cwd=home.root,
        on_line=on_line,
    )
    try:
        await upgrade.start()
        status = await upgrade.wait()
    finally:
        await upgrade.stop()
    if status != 0:
        raise ProcessError(f"migrations failed with status {status}:\n{upgrade.tail(40)}")
    await migration_status.remember(home.root, postgres.admin_dsn(DATABASE))


async def _together(*steps: Coroutine[None, None, object]) -> None:
    """Run all to their end, even if one fails, then raise the first failure."""
    for outcome in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
