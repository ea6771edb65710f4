"""One of Quarry's services as a process: the only place that configures uvicorn.

    python -m infra.serve SERVICE [--roles http,events,jobs] [--host ADDRESS] [--port PORT]

The embedded stack starts services by it on loopback, an image has it as its entry point. The port is that of
`QUARRY_PORT` unless one is given, the roles those of the service's settings.

A connection is an open file, of which the process may have as many as the machine allows.

Objects that exist once the service has started stay: the garbage collector begins then, and ignores them. A collection
of all of them would stop everything for 0.2 s, twice that on a busy machine, again and again.

SIGTERM and SIGINT: no new connection is taken, requests under way have `DRAIN_SECONDS` to end, then the service
releases what it holds, and the status is 0. Before the service has started they end it at once.
"""

import argparse
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Final, TypedDict

from shared.topology import SERVICES

PORT: Final = 8000
DRAIN_SECONDS: Final = 5
STOP_SECONDS: Final = 8.0
"""How long to wait when stopping a service: longer than for requests, so that the lifespan can still end in order."""

_OPEN_FILES: Final = 65_536
_NOT_STARTED: Final = 3  # as uvicorn's own command


class _Protocol(TypedDict, total=False):
    http: str
    proxy_headers: bool


_INTERNAL: Final[_Protocol] = {"http": "httptools"}
# The gateway is public: a parser with bounds, and no trust in addresses that a client claims to have.
_PROTOCOLS: Final[dict[str, _Protocol]] = {
    "gateway": {"http": "services.gateway.inbound.http_protocol:GuardedProtocol", "proxy_headers": False}
}


def main(arguments: Sequence[str] | None = None) -> None:
    import uvicorn  # noqa: PLC0415  # supervisors import this module for how long it takes to stop

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            gc.collect()
            gc.freeze()
            gc.enable()

    gc.disable()
    given = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    _allow_open_files()
    if given.roles:
        os.environ[f"QUARRY_{given.service.upper()}_ROLES"] = given.roles
    config = uvicorn.Config(
        given.factory or f"services.{given.service}.main:create_app",
        factory=True,
        host=given.host,
        port=given.port,
        loop="uvloop",
        ws="none",
        timeout_graceful_shutdown=DRAIN_SECONDS,
        server_header=False,
        access_log=False,
        **(_INTERNAL if given.factory else _PROTOCOLS.get(given.service, _INTERNAL)),
    )
    # Before the server takes over signals: a process told to stop during the import stops.
    config.load_app()
    server = Server(config)
    server.run()
    if not server.started:
        sys.exit(_NOT_STARTED)


def _allow_open_files() -> None:
    """Shells and engines grant a thousand by default, and more on request."""
    granted, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if most == resource.RLIM_INFINITY else min(most, _OPEN_FILES)
    if granted != resource.RLIM_INFINITY and granted < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _end(_number: int, _frame: FrameType | None) -> None:
    """While the service runs uvicorn handles signals; it raises them again when all is closed."""
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.serve", description="Run one service.")
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument("--roles", help="roles of this process: http, events, jobs (default: from the settings)")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all)")  # noqa: S104
    parser.add_argument("--port", type=int, default=os.environ.get("QUARRY_PORT", PORT), help="(default: %(default)s)")
    parser.add_argument("--factory", help="module:function that creates an application to run instead of the service's")
    return parser


if __name__ == "__main__":
    main()
