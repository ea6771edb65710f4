"""A server in a container, under the same hands as a process: started again with its data, killed, frozen, listened to.

    process = ContainerProcess("redis", lambda given: DockerContainer("redis:8.2").with_kwargs(**given), port=6379)
    await process.start()           # reached at 127.0.0.1:{process.port}, the same port at every start
    process.kill()                  # SIGKILL to its first process; the container stays and keeps its data
    await process.remove()          # with its volumes

Guarantees: it listens on loopback only; its container carries the label of this test process and is removed when that
dies without having done so (`tests.support.reaper`). testcontainers' own reaper, one more image, is not used.
Does not: map statuses of signals to negative numbers, as `Process` does: 137 is SIGKILL. The engine is asked with calls
that block for some ten milliseconds. The engine has to publish ports on this machine's loopback.
"""

import asyncio
import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, cast

import requests
import urllib3
from docker.errors import APIError, DockerException  # type: ignore[import-untyped]  # ships no annotations
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from infra.local.errors import ProcessError
from infra.local.ports import HOST, any_free
from infra.local.processes import LineSink
from tests.support import reaper

_PORT_TAKEN = ("port is already allocated", "address already in use")
_PORT_WITHIN = 10.0
_GONE = (APIError, requests.RequestException, urllib3.exceptions.HTTPError, OSError)


MakeContainer = Callable[[Mapping[str, Any]], DockerContainer]


class ContainerProcess:
    """One container with its log; may be started again after it ended.

    Args:
        make: the container to be, without its port; passes on what it is given to the engine.
        port: where the server listens in the container.
        stop_signals: what `stop` sends, each with the seconds before the next; SIGKILL comes last by itself.
    """

    def __init__(
        self,
        name: str,
        make: MakeContainer,
        *,
        port: int,
        stop_signals: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 8.0),),
        on_line: LineSink | None = None,
    ) -> None:
        self.name = name
        self.port = any_free()
        self._make = make
        self._inner_port = port
        self._stop_signals = stop_signals
        self._on_line = on_line
        self._lines: deque[str] = deque(maxlen=5_000)
        self._container: DockerContainer | None = None
        self._exit: Future[int] | None = None
        self._reader: threading.Thread | None = None
        self._pid: int | None = None
        self._frozen = False

    @property
    def pid(self) -> int | None:
        """Number of its first process, as the engine's machine counts, while it runs."""
        return self._pid if self.running else None

    @property
    def running(self) -> bool:
        return self._exit is not None and not self._exit.done()

    @property
    def returncode(self) -> int | None:
        return self._exit.result() if self._exit is not None and self._exit.done() else None

    @property
    def log(self) -> list[str]:
        return list(self._lines)

    async def start(self) -> None:
        """Make the container, or start the one there is; does not wait for the server to be of use.

        Raises:
            ProcessError: it runs already, or the engine cannot start it.
        """
        if self.running:
            raise ProcessError(f"{self.name} is already running")
        # Asked here, in one thread: the first asks for a process.
        labels = reaper.labels()
        try:
            await asyncio.to_thread(self._start, labels)
        except (DockerException, requests.RequestException) as error:
            raise ProcessError(f"{self.name} cannot be started in a container: {error}") from error

    async def wait(self) -> int:
        if self._exit is None:
            raise ProcessError(f"{self.name} was never started")
        return await asyncio.wrap_future(self._exit)

    async def stop(self) -> int | None:
        """Ask it to end, then insist; the container stays."""
        if self._exit is None:
            return None
        self.thaw()
        for wanted, seconds in self._stop_signals:
            if not self.running:
                break
            self.send(wanted)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(self.wait(), seconds)
        self.kill()
        return await self.wait()

    async def remove(self) -> None:
        """End it and remove its container and data. It may be started anew, from nothing."""
        container, self._container = self._container, None
        if container is not None:
            await asyncio.to_thread(container.stop)
            if self._exit is not None:
                await self.wait()
        self._frozen = False

    def send(self, number: signal.Signals) -> None:
        if self.running:
            # It may end by itself at any moment.
            with contextlib.suppress(APIError):
                self._engine.kill(signal=number.name)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self._frozen = False

    def freeze(self) -> None:
        """The engine's pause: all processes of the container stand still, its connections stay."""
        if self.running and not self._frozen:
            self._engine.pause()
            self._frozen = True

    def thaw(self) -> None:
        if self.running and self._frozen:
            self._engine.unpause()
        self._frozen = False

    def say(self, line: str) -> None:
        self._lines.append(line)
        if self._on_line is not None:
            self._on_line(self.name, line)

    def tail(self, lines: int = 12) -> str:
        return "\n".join(f"    {line}" for line in self.log[-lines:])

    @property
    def _engine(self) -> Any:  # docker publishes no types
        if self._container is None:
            raise ProcessError(f"{self.name} has no container")
        return self._container.get_wrapped_container()

    def _start(self, labels: Mapping[str, str]) -> None:
        # Of an earlier run the engine would tell the lines again.
        since = time.time() if self._container is not None else None
        if self._container is None:
            self._container = self._create(labels)
        else:
            self._until_port_is_free(self._engine.start)
        engine = self._engine
        engine.reload()
        self._pid = engine.attrs["State"]["Pid"] or None
        self._frozen = False
        ended: Future[int] = Future()
        # A future that runs cannot be cancelled by somebody who merely stops waiting for it.
        ended.set_running_or_notify_cancel()
        self._exit = ended
        reader = threading.Thread(target=self._read, args=(engine, since), name=f"{self.name}-log", daemon=True)
        reader.start()
        threading.Thread(target=_reap, args=(engine, reader, ended), name=f"{self.name}-wait", daemon=True).start()

    def _create(self, labels: Mapping[str, str]) -> DockerContainer:
        # One more image, for what `reaper` does.
        testcontainers_config.ryuk_disabled = True
        container = self._make({"network": "bridge", "labels": dict(labels)})
        # The engine takes an address too, and keeps the port from one start to the next.
        cast("dict[str, object]", container.ports)[f"{self._inner_port}/tcp"] = (HOST, self.port)
        try:
            self._until_port_is_free(container.start)
        except BaseException:
            container.stop()
            raise
        return container

    def _until_port_is_free(self, start: Callable[[], object]) -> None:
        """A connection that goes out may have taken the port for a moment."""
        deadline = time.monotonic() + _PORT_WITHIN
        while True:
            try:
                start()
                return
            except APIError as error:
                if time.monotonic() > deadline or not any(words in str(error) for words in _PORT_TAKEN):
                    raise
            time.sleep(0.2)

    def _read(self, engine: Any, since: float | None) -> None:
        rest = b""
        # The container may be removed at any moment.
        with contextlib.suppress(*_GONE):
            for chunk in engine.logs(stream=True, follow=True, since=since):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self.say(line.decode("utf-8", errors="replace").rstrip("\r"))
        if rest:
            self.say(rest.decode("utf-8", errors="replace"))


def _reap(engine: Any, reader: threading.Thread, ended: "Future[int]") -> None:
    try:
        status = int(engine.wait()["StatusCode"])
    except _GONE:
        # Removed before the engine was asked, which kills it.
        status = 128 + signal.SIGKILL
    # What was written last belongs to the log before anybody hears of the end.
    reader.join(timeout=2.0)
    ended.set_result(status)
