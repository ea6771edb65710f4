"""Protocols of the PostgreSQL and Redis servers that a stack runs on.

`uv run dev` runs them itself, as processes from wheels (`infra.local.servers`). Tests may run them in containers, or
use some that run already (`tests.support.servers`). Addresses of all kinds differ only in the URL.
"""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from infra.local.cluster import ADMIN
from infra.local.home import Home
from infra.local.processes import LineSink
from infra.redis.acl import OPERATOR


class ServerProcess(Protocol):
    """The program of a server, and what fault tests do to it."""

    @property
    def name(self) -> str: ...

    @property
    def pid(self) -> int | None:
        """Id of its first process on this machine, while it runs."""

    @property
    def running(self) -> bool: ...

    @property
    def returncode(self) -> int | None:
        """Exit status of the last run; None before the first end and while running."""

    @property
    def log(self) -> list[str]: ...

    async def wait(self) -> int:
        """Wait for its end; returns the exit status."""

    async def stop(self) -> int | None:
        """Ask it to end, then insist."""

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server's first process; nothing happens when it has ended."""

    def kill(self) -> None:
        """`kill -9`, without waiting for the end."""

    def freeze(self) -> None:
        """Stop all processes of the server, without closing a connection."""

    def thaw(self) -> None: ...

    def say(self, line: str) -> None:
        """Add a line of the caller's own to the log."""

    def tail(self, lines: int = 12) -> str: ...


class Server(Protocol):
    """A server that can be started, stopped and started again with its data."""

    @property
    def process(self) -> ServerProcess: ...

    async def start(self) -> None:
        """Start it and wait until it is usable.

        Raises:
            ProcessError: it does not come up.
        """

    async def stop(self) -> None: ...

    async def close(self) -> None:
        """Stop it for good. What the next stack needs is in the home; nothing stays elsewhere."""


class Postgres(Server, Protocol):
    def dsn(self, user: str, password: str, database: str, *, driver: str = "") -> str:
        """Connection URL; `driver` as SQLAlchemy wants it, e.g. `asyncpg`."""

    def admin_dsn(self, database: str = ADMIN) -> str:
        """Connection URL of a superuser."""

    def database_name(self, database: str) -> str:
        """What the server calls a database of this stack, on which it may not be alone."""


class Redis(Server, Protocol):
    def url(self, database: int = 0, *, user: str = OPERATOR) -> str:
        """Address with the credentials of `user`: a service, or the operator, who has every right."""

    async def erase(self) -> None:
        """Forget all data; the server is not running."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How the servers of a stack are to run.

    environ: what their processes inherit. durable: False when data need not survive the machine.
    postgres, redis: further settings of each.
    """

    environ: Mapping[str, str]
    durable: bool
    postgres: Mapping[str, str]
    redis: Mapping[str, str]
    on_line: LineSink | None


MakeServers = Callable[[Home, ServerOptions], tuple[Postgres, Redis]]
"""Makes the servers of the stack in a home, not started."""
