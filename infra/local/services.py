"""One of Quarry's services as a supervised process: uvicorn with an application factory on a loopback port."""

import asyncio
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from infra.local.errors import ProcessError
from infra.local.home import ROOT
from infra.local.ports import HOST
from infra.local.probes import http_status
from infra.local.processes import LineSink, Process

_POLL = 0.05
_SERVER_OPTIONS = (
    *("--loop", "uvloop", "--ws", "none"),
    *("--timeout-graceful-shutdown", "5", "--no-server-header", "--no-access-log"),
)
# The gateway meets the public: a parser with bounds, and no belief in addresses that a client claims to have.
_PROTOCOLS = {"gateway": ("--http", "services.gateway.http_protocol:GuardedProtocol", "--no-proxy-headers")}
_INTERNAL_PROTOCOL = ("--http", "httptools")


class ServiceProcess(Process):
    """A service; `start` launches it, `wait_ready` waits until `/readyz` says yes.

    Args:
        env: its whole environment.
        factory: `module:function` that makes the ASGI application from the environment.
    """

    def __init__(
        self,
        name: str,
        env: Mapping[str, str],
        port: int,
        *,
        factory: str | None = None,
        cwd: Path = ROOT,
        on_line: LineSink | None = None,
    ) -> None:
        self.port = port
        self.url = f"http://{HOST}:{port}"
        protocol = _PROTOCOLS.get(name, _INTERNAL_PROTOCOL) if factory is None else _INTERNAL_PROTOCOL
        command = [sys.executable, "-m", "uvicorn", "--factory", factory or f"services.{name}.main:create_app"]
        super().__init__(
            name,
            [*command, "--host", HOST, "--port", str(port), *_SERVER_OPTIONS, *protocol],
            env=env,
            cwd=cwd,
            # Longer than uvicorn waits for requests, so that the lifespan can still end in order.
            stop_signals=((signal.SIGTERM, 8.0),),
            on_line=on_line,
        )

    async def ready(self) -> bool:
        """One look at `/readyz`."""
        return await http_status(self.port, "/readyz") == 200

    async def wait_ready(self, within: float = 60.0) -> None:
        """Wait until the service takes requests.

        Raises:
            ProcessError: it ended, or was not ready in time.
        """
        deadline = time.monotonic() + within
        while True:
            if await self.ready():
                return
            if not self.running:
                raise ProcessError(f"{self.name} ended with status {self.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ProcessError(f"{self.name} is not ready after {within:.0f} s:\n{self.tail()}")
            await asyncio.sleep(_POLL)
