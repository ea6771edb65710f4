"""Supervised child processes: started in a session of their own, logged line by line, stopped without leftovers.

Guarantees: output is always read, so a child never blocks on a full pipe; whatever a child leaves in its process group
is killed when it ends; a child gets `death_signal` when the supervising process dies (Linux). An object is bound to no
event loop: it may be started in one and stopped in another.
Does not: restart anything (`infra.local.supervision` does), nor reach descendants that opened sessions of their own.

Start processes from a thread that lives as long as they should, normally the main thread: the kernel takes the end of
the starting thread for the death of the parent.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import psutil

from infra.local.errors import ProcessError
from infra.local.os_user import Account
from infra.local.probes import eventually

LineSink = Callable[[str, str], None]
"""Called with (process name, line) from a reader thread."""

# In the environment of every supervised process: which folder it belongs to.
SUPERVISED = "QUARRY_SUPERVISED_HOME"

_CHILD = Path(__file__).with_name("child.py")
_LONGEST_LINE = 65_536


class Process:
    """One program with its log; may be started again after it ended."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        account: Account | None = None,
        stop_signals: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 8.0),),
        death_signal: signal.Signals = signal.SIGKILL,
        on_line: LineSink | None = None,
    ) -> None:
        """
        Args:
            account: run as this account; needs root.
            stop_signals: what `stop` sends, each with the seconds before the next; SIGKILL always comes last.
            death_signal: sent by the kernel when the supervising process dies.
        """
        self.name = name
        self.argv = list(argv)
        self.env = dict(env)
        self._cwd = cwd
        self._account = account
        self._stop_signals = stop_signals
        self._death_signal = death_signal
        self._on_line = on_line
        self._lines: deque[str] = deque(maxlen=5_000)
        self._popen: subprocess.Popen[bytes] | None = None
        self._exit: Future[int] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._popen.pid if self._popen is not None and self.running else None

    @property
    def running(self) -> bool:
        return self._exit is not None and not self._exit.done()

    @property
    def returncode(self) -> int | None:
        """Exit status of the last run, negative for a signal; None before the first end and while running."""
        return self._exit.result() if self._exit is not None and self._exit.done() else None

    @property
    def log(self) -> list[str]:
        """The last lines written to stdout and stderr, over all runs."""
        return list(self._lines)

    async def start(self) -> None:
        """Start the program; does not wait until it is usable.

        Raises:
            ProcessError: it is running already, or cannot be executed.
        """
        if self.running:
            raise ProcessError(f"{self.name} is already running")
        uid, gid = (self._account.uid, self._account.gid) if self._account else (-1, -1)
        identity = [str(os.getpid()), str(int(self._death_signal)), str(uid), str(gid)]
        try:
            popen = subprocess.Popen(  # noqa: ASYNC220  # a fork, as asyncio's own subprocesses do it
                [sys.executable, "-I", "-S", str(_CHILD), *identity, *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self._cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise ProcessError(f"{self.name} cannot start: {error}") from error
        ended: Future[int] = Future()
        # A future that runs cannot be cancelled by a caller that merely stops waiting for it.
        ended.set_running_or_notify_cancel()
        self._popen, self._exit = popen, ended
        reader = threading.Thread(target=self._read, args=(popen,), name=f"{self.name}-log", daemon=True)
        reader.start()
        threading.Thread(target=_reap, args=(popen, reader, ended), name=f"{self.name}-wait", daemon=True).start()

    async def wait(self) -> int:
        """Wait for the end; returns the exit status, negative for a signal."""
        if self._exit is None:
            raise ProcessError(f"{self.name} was never started")
        return await asyncio.wrap_future(self._exit)

    async def stop(self) -> int | None:
        """Ask it to end, then insist. Returns the exit status, None when it never ran."""
        if self._exit is None:
            return None
        for wanted, seconds in self._stop_signals:
            if not self.running:
                break
            self.send(wanted)
            # A frozen process would never see the request.
            self.send(signal.SIGCONT)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(self.wait(), seconds)
        self.kill()
        return await self.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; nothing happens when it has ended."""
        if self._popen is not None and self.running:
            self._popen.send_signal(number)

    def kill(self) -> None:
        """`kill -9`: the process and then its group, without any chance to clean up."""
        self.send(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP to the process and all its descendants."""
        self._signal_tree(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT to the process and all its descendants."""
        self._signal_tree(signal.SIGCONT)

    def say(self, line: str) -> None:
        """Add a line of the supervisor's own to the log."""
        self._lines.append(line)
        if self._on_line is not None:
            self._on_line(self.name, line)

    def tail(self, lines: int = 12) -> str:
        """The end of the log, indented, for an error message."""
        return "\n".join(f"    {line}" for line in self.log[-lines:])

    def _signal_tree(self, number: signal.Signals) -> None:
        if (pid := self.pid) is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(pid)
            for process in (top, *top.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    def _read(self, popen: subprocess.Popen[bytes]) -> None:
        if (stream := popen.stdout) is None:
            raise ProcessError(f"{self.name} was started without a pipe")
        with stream:
            while raw := stream.readline(_LONGEST_LINE):
                self.say(raw.decode("utf-8", errors="replace").rstrip("\r\n"))


def _reap(popen: subprocess.Popen[bytes], reader: threading.Thread, ended: Future[int]) -> None:
    status = popen.wait()
    # The group outlives its leader while it has members; when it has none there is nothing to signal.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(popen.pid, signal.SIGKILL)
    # The last lines belong in the log before the end is reported.
    reader.join(timeout=2.0)
    ended.set_result(status)


def leftovers(home: Path) -> list[int]:
    """Processes of a supervisor that died without stopping them: those that carry `home` in their environment."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error):
            if process.environ().get(SUPERVISED) == str(home):
                found.append(process.pid)
    return found


async def stop_leftovers(home: Path, within: float = 10.0) -> list[int]:
    """End what `leftovers` finds: SIGTERM, then SIGKILL. Returns the process ids."""
    pids = leftovers(home)
    for number, seconds in ((signal.SIGTERM, within), (signal.SIGKILL, 2.0)):
        for pid in leftovers(home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                # A frozen one would never see the request.
                os.kill(pid, signal.SIGCONT)
        await eventually(lambda: not leftovers(home), within=seconds)
    return pids
