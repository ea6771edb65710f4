"""PostgreSQL and Redis in containers, with images and commands of docker-compose.yml and what tests need besides.

Each stack has a pair of its own. Data is in volumes without a name, which go with their container.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

import asyncpg
from redis import exceptions
from redis.asyncio import Redis
from testcontainers.core.container import DockerContainer

from infra.local.cluster import ADMIN
from infra.local.environment import redis_passwords
from infra.local.errors import ProcessError
from infra.local.home import Home
from infra.local.ports import HOST
from infra.local.processes import LineSink
from infra.local.server_protocols import ServerOptions
from infra.local.servers import postgres_settings, redis_settings
from infra.redis import acl
from tests.support.composed import composed
from tests.support.containers import ContainerProcess

_ACL_FILE = "/run/secrets/redis_users.acl"
_WITHIN = 90.0
_POLL = 0.05


class ContainerPostgres:
    """PostgreSQL in a container, reached over TCP."""

    def __init__(
        self,
        admin_password: str,
        *,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        on_line: LineSink | None = None,
    ) -> None:
        self._admin_password = admin_password
        self._composed = composed("postgres")
        told = postgres_settings(settings or {}, durable=durable)
        self._command = [*self._composed.command, *(f"-c{name}={value}" for name, value in told.items())]
        self._initdb = self._composed.environment["POSTGRES_INITDB_ARGS"] + ("" if durable else " --no-sync")
        self.process = ContainerProcess(
            "postgres",
            self._container,
            port=5432,
            # Fast shutdown, then immediate, as for the embedded one.
            stop_signals=((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0)),
            on_line=on_line,
        )

    async def start(self, within: float = _WITHIN) -> None:
        await _started(self.process, self._accepts, within)

    async def stop(self) -> None:
        await self.process.stop()

    async def close(self) -> None:
        await self.process.remove()

    def dsn(self, user: str, password: str, database: str, *, driver: str = "") -> str:
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        account = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"{scheme}://{account}@{HOST}:{self.process.port}/{quote(database)}"

    def admin_dsn(self, database: str = ADMIN) -> str:
        return self.dsn(ADMIN, self._admin_password, database)

    def database_name(self, database: str) -> str:
        return database

    def _container(self, given: Mapping[str, Any]) -> DockerContainer:
        return (
            DockerContainer(self._composed.image)
            .with_kwargs(user=self._composed.user, **given)
            .with_command(self._command)
            .with_env("POSTGRES_PASSWORD", self._admin_password)
            .with_env("POSTGRES_INITDB_ARGS", self._initdb)
        )

    async def _accepts(self) -> bool:
        try:
            connection = await asyncpg.connect(self.admin_dsn(), timeout=5.0)
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            return False
        await connection.close()
        return True


class ContainerRedis:
    """Redis in a container, reached over TCP; `passwords` as for the embedded one."""

    def __init__(
        self,
        passwords: Mapping[str, str] | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        on_line: LineSink | None = None,
    ) -> None:
        self._passwords = passwords
        self._composed = composed("redis")
        told = redis_settings(settings or {})
        self._command = [
            *self._composed.command,
            *(part for item in told.items() for part in (f"--{item[0]}", item[1])),
        ]
        if not passwords:
            # Reached from outside of its container, it would turn away everybody who has none.
            self._command = [part for part in self._command if _ACL_FILE not in part] + ["--protected-mode", "no"]
        self.process = ContainerProcess("redis", self._container, port=6379, on_line=on_line)

    async def start(self, within: float = _WITHIN) -> None:
        await _started(self.process, self._answers, within)

    async def stop(self) -> None:
        await self.process.stop()

    async def close(self) -> None:
        await self.process.remove()

    async def erase(self) -> None:
        await self.process.remove()

    def url(self, database: int = 0, *, user: str = acl.OPERATOR) -> str:
        account = f"{quote(user, safe='')}:{quote(self._passwords[user], safe='')}@" if self._passwords else ""
        return f"redis://{account}{HOST}:{self.process.port}/{database}"

    def _container(self, given: Mapping[str, Any]) -> DockerContainer:
        container = DockerContainer(self._composed.image).with_command(self._command)
        container.with_kwargs(user=self._composed.user, entrypoint=list(self._composed.entrypoint), **given)
        if self._passwords:
            # Hashes of random passwords; the server does not run as root.
            container.with_copy_into_container(acl.render(self._passwords).encode(), _ACL_FILE, 0o644)
        return container

    async def _answers(self) -> bool:
        client = Redis.from_url(self.url(), socket_timeout=3.0, socket_connect_timeout=3.0)
        try:
            return bool(await client.ping())
        except (exceptions.ConnectionError, exceptions.TimeoutError):  # loading its data is one of the former
            return False
        finally:
            await client.aclose()


def container_servers(home: Home, options: ServerOptions) -> tuple[ContainerPostgres, ContainerRedis]:
    """A pair for one stack."""
    postgres = ContainerPostgres(
        home.secrets.get("postgres_password"),
        durable=options.durable,
        settings=options.postgres,
        on_line=options.on_line,
    )
    redis = ContainerRedis(redis_passwords(home), settings=options.redis, on_line=options.on_line)
    return postgres, redis


async def _started(process: ContainerProcess, ready: Callable[[], Awaitable[bool]], within: float) -> None:
    deadline = time.monotonic() + within
    await process.start()
    try:
        while not await ready():
            if not process.running:
                raise ProcessError(f"{process.name} ended with status {process.returncode}:\n{process.tail()}")
            if time.monotonic() > deadline:
                raise ProcessError(f"{process.name} does not respond:\n{process.tail()}")
            await asyncio.sleep(_POLL)
    except BaseException:
        await process.stop()
        raise
