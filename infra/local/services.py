"""One of Quarry's services as a supervised process: `infra.serve` on a loopback port."""

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
from infra.serve import STOP_SECONDS

_POLL = 0.05


class ServiceProcess(Process):
    """A service; `start` launches it, `wait_ready` waits until `/readyz` reports it ready.

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
        command = [sys.executable, "-m", "infra.serve", name, "--host", HOST, "--port", str(port)]
        super().__init__(
            name,
            [*command, *(("--factory", factory) if factory else ())],
            env=env,
            cwd=cwd,
            stop_signals=((signal.SIGTERM, STOP_SECONDS),),
            on_line=on_line,
        )

    async def ready(self) -> bool:
        """Check `/readyz` once."""
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
