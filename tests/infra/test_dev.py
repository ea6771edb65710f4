"""The command as a person uses it: comes up, heals, reloads, is told off, goes away; over services of a few lines."""

import asyncio
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from infra.local import dev
from infra.local.console import Console
from infra.local.home import ROOT, Home
from infra.local.ports import HOST, any_free
from infra.local.processes import leftovers
from shared.topology import SERVICES
from tests.support.polling import eventually

BANNER = "Quarry is up after"


class Session:
    """`dev` in this process, and what it says."""

    def __init__(self, project: Path, **environ: str) -> None:
        self.project = project
        self.home = project / ".quarry"
        self.out = io.StringIO()
        self.environ = {**os.environ, "QUARRY_GATEWAY_PORT": str(any_free()), **environ}
        self.result: asyncio.Task[int] = asyncio.ensure_future(
            dev.run(self.environ, Console(self.out, colour=False), project)
        )

    async def said(self, text: str) -> bool:
        assert text == BANNER or BANNER in self.out.getvalue() or not self.result.done(), self.out.getvalue()
        return text in self.out.getvalue()

    async def wait_for(self, text: str) -> None:
        await eventually(lambda: self.said(text), within=60)

    def told(self) -> dict[str, str]:
        content: dict[str, str] = json.loads((self.home / "dev.json").read_text())
        return content

    async def ask(self, service: str, path: str) -> object:
        port = json.loads((self.home / "ports.json").read_text())[service]
        async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}") as client:
            try:
                return (await client.get(path)).json()
            except httpx.TransportError:
                return None

    async def interrupt(self) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return await asyncio.wait_for(self.result, 60)


@asynccontextmanager
async def running(session: Session) -> AsyncIterator[Session]:
    try:
        await session.wait_for(BANNER)
        yield session
    finally:
        if not session.result.done():
            await session.interrupt()
    assert leftovers(session.home) == []


async def test_first_and_second_start(project: Path) -> None:
    async with running(Session(project)) as session:
        first = session.told()
        assert first.keys() == {"gateway_url", "oidc_issuer", "tenant_id", "api_key"}
        assert first["gateway_url"] == f"http://{HOST}:{session.environ['QUARRY_GATEWAY_PORT']}"
        assert first["tenant_id"] == "dev"
        assert stat.S_IMODE((session.home / "dev.json").stat().st_mode) == 0o600
        assert first["api_key"] not in session.out.getvalue()
        async with httpx.AsyncClient() as client:
            document = (await client.get(f"{first['oidc_issuer']}/.well-known/openid-configuration")).json()
            assert document["issuer"] == first["oidc_issuer"]
        pids = [await session.ask(service, "/pid") for service in SERVICES]
        assert len(set(pids)) == len(SERVICES)
        assert await session.interrupt() == 0
        assert session.out.getvalue().endswith("quarry   | stopped\n")
        assert not [pid for pid in pids if isinstance(pid, int) and psutil.pid_exists(pid)]
    environ = {"QUARRY_GATEWAY_PORT": session.environ["QUARRY_GATEWAY_PORT"]}
    async with running(Session(project, **environ)) as session:
        assert session.told() == first


async def test_whatever_is_killed_comes_back_and_changes_are_loaded(project: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        session = Session(project, QUARRY_GATEWAY_PORT=str(port))
        await session.wait_for(f"port {port} is in use: the gateway listens on ")
    async with running(session):
        assert str(port) not in session.told()["gateway_url"]
        former = await session.ask("projects", "/pid")
        await session.ask("projects", "/die")
        await session.wait_for(f"projects ended with status {-signal.SIGKILL}; restarting in 0.5 s")

        async def new_process() -> bool:
            return await session.ask("projects", "/pid") not in (None, former)

        await eventually(new_process, within=30)

        redis = next(
            p for p in psutil.process_iter() if p.pid in leftovers(session.home) and p.name() == "redis-server"
        )
        redis.kill()
        await session.wait_for("redis ended with status -9; restarting")

        others = await session.ask("gateway", "/pid")
        source = project / "services" / "identity" / "main.py"
        source.write_text(source.read_text().replace('"first"', '"second"'))
        await session.wait_for("services/identity/main.py changed: restarting identity")

        async def new_code() -> bool:
            return await session.ask("identity", "/answer") == "second"

        await eventually(new_code, within=30)
        assert await session.ask("gateway", "/pid") == others


async def test_a_second_one_in_the_same_folder_is_refused(project: Path) -> None:
    home = Home(project / ".quarry")
    home.prepare()
    with home.lock():
        session = Session(project)
        assert await session.result == 1
    assert f"a stack is already running in {home.folder} (process {os.getpid()})" in session.out.getvalue()


@pytest.mark.parametrize("value", ["http", "0", "65536"])
async def test_a_port_that_is_none_is_refused(project: Path, value: str) -> None:
    session = Session(project, QUARRY_GATEWAY_PORT=value)
    assert await session.result == 1
    assert session.out.getvalue() == f"quarry   | QUARRY_GATEWAY_PORT is not a valid port: {value!r}\n"


async def test_a_server_that_cannot_start_ends_it_with_a_reason(project: Path) -> None:
    (project / ".quarry").mkdir()
    (project / ".quarry" / "postgres").mkdir()
    (project / ".quarry" / "postgres" / "PG_VERSION").write_text("9.1\n")
    session = Session(project)
    assert await asyncio.wait_for(session.result, 60) == 1
    assert "postgres ended with status " in session.out.getvalue()
    assert leftovers(session.home) == []


async def test_a_tenant_that_cannot_be_made_ends_it_with_a_reason(project: Path) -> None:
    (project / "services" / "identity" / "bootstrap.py").write_text("import sys; sys.exit('no such table')")
    session = Session(project)
    assert await asyncio.wait_for(session.result, 60) == 1
    assert "the tenant 'dev' cannot be created (status 1):\nquarry   |     no such table" in session.out.getvalue()
    assert not (session.home / "dev.json").exists()


async def test_it_waits_for_a_broken_service_and_ends_when_told_twice(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "_REMIND_SECONDS", 0.5)
    source = project / "services" / "gateway" / "main.py"
    good = source.read_text()
    source.write_text("def")
    session = Session(project)
    await session.wait_for("still waiting for gateway")
    await session.wait_for("SyntaxError")
    source.write_text(good)
    await session.wait_for(BANNER)
    # Frozen, none of them answers a request to end; the second interrupt does not ask.
    for pid in leftovers(session.home):
        os.kill(pid, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGTERM)
    await session.wait_for("interrupt again to stop without waiting")
    assert await session.interrupt() == 0


async def test_nothing_survives_a_command_that_is_killed_and_the_next_one_starts(project: Path) -> None:
    code = (
        "import os, sys, asyncio\nfrom pathlib import Path\n"
        "from infra.local import dev\nfrom infra.local.console import Console\n"
        "sys.exit(asyncio.run(dev.run(os.environ, Console(sys.stdout, colour=False), Path(sys.argv[1]))))"
    )
    environ = {**os.environ, "QUARRY_GATEWAY_PORT": str(any_free())}
    command = subprocess.Popen(
        [sys.executable, "-u", "-c", code, str(project)], cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    stream = command.stdout

    def read_banner() -> bool:
        return any(BANNER in line for line in stream)

    assert await asyncio.to_thread(read_banner)
    postmaster = int((project / ".quarry" / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    command.kill()
    command.wait()
    stream.close()

    async def all_gone() -> bool:
        return leftovers(project / ".quarry") == [] and not psutil.pid_exists(postmaster)

    await eventually(all_gone)
    former = json.loads((project / ".quarry" / "dev.json").read_text())
    (project / "keys").write_text("")
    async with running(Session(project, QUARRY_GATEWAY_PORT=environ["QUARRY_GATEWAY_PORT"])) as session:
        # The former key is not known any more: a new one takes its place.
        assert session.told().keys() == former.keys()
        assert session.told()["gateway_url"] == former["gateway_url"]
        assert session.told()["api_key"] != former["api_key"]
