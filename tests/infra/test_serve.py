"""How a service is run: the options of its server, its roles, and how it ends."""

import asyncio
import gc
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from infra import serve
from infra.local.ports import any_free
from infra.local.probes import http_status
from tests.support.polling import eventually

Options = dict[str, Any]
Given = Callable[[Sequence[str]], tuple[str, Options]]


class _NoServer:
    started = True

    def __init__(self, _config: object) -> None: ...

    def run(self) -> None: ...


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """What uvicorn is told for a command line."""

    def run(arguments: Sequence[str]) -> tuple[str, Options]:
        called: list[tuple[str, Options]] = []

        class Config:
            def __init__(self, application: str, **options: Any) -> None:
                called.append((application, options))

            def load_app(self) -> None: ...

        monkeypatch.setattr(uvicorn, "Config", Config)
        monkeypatch.setattr(uvicorn, "Server", _NoServer)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            serve.main(arguments)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            gc.enable()
        return called[0]

    return run


def test_a_service_listens_everywhere_at_its_port(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    application, options = given(["projects"])
    assert application == "services.projects.main:create_app"
    assert (options["host"], options["port"], options["http"]) == ("0.0.0.0", 8000, "httptools")  # noqa: S104
    monkeypatch.setenv("QUARRY_PORT", "8080")
    assert given(["projects"])[1]["port"] == 8080
    options = given(["projects", "--host", "127.0.0.1", "--port", "9"])[1]
    assert (options["host"], options["port"]) == ("127.0.0.1", 9)


def test_only_the_gateway_meets_strangers(given: Given) -> None:
    _, options = given(["gateway"])
    assert options["http"] == "services.gateway.inbound.http_protocol:GuardedProtocol"
    assert options["proxy_headers"] is False


def test_every_server_drains_and_says_nothing_of_itself(given: Given) -> None:
    _, options = given(["identity"])
    assert options["timeout_graceful_shutdown"] < serve.STOP_SECONDS
    assert (options["server_header"], options["access_log"], options["ws"]) == (False, False, "none")


def test_roles_are_those_of_the_settings_unless_given(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARRY_INDEXING_ROLES", "http")
    given(["indexing"])
    assert os.environ["QUARRY_INDEXING_ROLES"] == "http"
    given(["indexing", "--roles", "events,jobs"])
    assert os.environ["QUARRY_INDEXING_ROLES"] == "events,jobs"


def test_an_unknown_service_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        serve.main(["billing"])
    assert "invalid choice: 'billing'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("limits", "set_to"),
    [
        ((1024, 524_288), (65_536, 524_288)),
        ((1024, 20_000), (20_000, 20_000)),
        ((1024, resource.RLIM_INFINITY), (65_536, resource.RLIM_INFINITY)),
        ((100_000, 524_288), None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
    ],
)
def test_as_many_files_may_be_open_as_the_machine_allows(
    given: Given, monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], set_to: tuple[int, int] | None
) -> None:
    wanted: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _what: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _what, pair: wanted.append(pair))
    given(["notifier"])
    assert wanted == ([set_to] if set_to else [])


SLOW_IMPORT = "import time\nprint('importing', flush=True)\ntime.sleep(60)\n"
APPLICATION = """
import asyncio

def create_app():
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("closed in order", flush=True)
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"] == "/slow":
            print("asked", flush=True)
            await asyncio.sleep(1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    return app
"""


def started(folder: Path, source: str, port: int) -> "subprocess.Popen[str]":
    (folder / "tiny.py").write_text(source)
    command = [sys.executable, "-m", "infra.serve", "projects", "--host", "127.0.0.1", "--port", str(port)]
    return subprocess.Popen(
        [*command, "--factory", "tiny:create_app"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_service_told_to_stop_before_it_has_started_ends_at_once(tmp_path: Path) -> None:
    process = started(tmp_path, SLOW_IMPORT, any_free())
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    process.stdout.close()


async def test_requests_under_way_are_answered_before_the_end(tmp_path: Path) -> None:
    port = any_free()
    process = started(tmp_path, APPLICATION, port)
    assert process.stdout is not None
    deadline = time.monotonic() + 30
    while await http_status(port, "/") != 200:
        assert time.monotonic() < deadline
    slow = asyncio.create_task(http_status(port, "/slow", within=10))
    while await asyncio.to_thread(process.stdout.readline) != "asked\n":
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGTERM)
    assert await slow == 200
    assert await asyncio.to_thread(process.wait, 20) == 0
    assert "closed in order" in process.stdout.read()
    process.stdout.close()


COLLECTING = """
import gc

def create_app():
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            assert not gc.isenabled()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = f"{gc.isenabled()} {gc.get_freeze_count() > 1000}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
    return app
"""


async def test_the_collector_leaves_alone_what_a_service_started_with(tmp_path: Path) -> None:
    process = started(tmp_path, COLLECTING, port := any_free())
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

            async def answer() -> str:
                try:
                    return (await client.get("/")).text
                except httpx.ConnectError:
                    return ""

            assert await eventually(answer, within=20) == "True True"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        assert process.stdout is not None
        process.stdout.close()
