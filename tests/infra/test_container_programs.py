"""The small programs of the image: is the service well, and the way to the development sign-in."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from infra.docker import forward, healthcheck
from infra.local.home import ROOT
from infra.local.ports import any_free

HEALTHCHECK = Path(healthcheck.__file__)


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 503)
        self.end_headers()
        self.wfile.write(b"postgres: away" if self.path != "/readyz" else b"fine")

    def log_message(self, *_: object) -> None:
        """Nothing to say."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def check(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """As the image runs it: by itself, without any package."""
    return subprocess.run(
        [sys.executable, "-I", "-S", str(HEALTHCHECK), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=20,
    )


def test_a_service_that_is_ready_is_healthy(port: int) -> None:
    done = check(QUARRY_PORT=str(port))
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine", "")


def test_one_that_is_not_ready_says_why(port: int) -> None:
    done = check(str(port), "/other")
    assert (done.returncode, done.stdout) == (1, "postgres: away")


def test_one_that_is_not_there_is_not_healthy() -> None:
    done = check(str(any_free()))
    assert done.returncode == 1
    assert "refused" in done.stdout


def test_the_check_can_be_told_in_one_process(
    port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, status in (([str(port)], 0), ([str(port), "/other"], 1), ([str(any_free())], 1)):
        monkeypatch.setattr(sys, "argv", ["healthcheck", *arguments])
        assert healthcheck.main() == status
    assert "postgres: away" in capsys.readouterr().out


async def started(listen: int, target: int) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "infra.docker.forward", f"127.0.0.1:{listen}", f"127.0.0.1:{target}")
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", listen)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return process


async def test_bytes_and_ends_are_passed_on_both_ways() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())  # until the other side has said all
        writer.close()

    target = await asyncio.start_server(shout, "127.0.0.1", 0)
    listen = any_free()
    process = await started(listen, target.sockets[0].getsockname()[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", listen)
    writer.write(b"a" * 300_000)
    writer.write_eof()
    assert await reader.read() == b"A" * 300_000
    writer.close()
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    target.close()


async def test_nobody_behind_it_is_a_connection_that_ends() -> None:
    listen = any_free()
    process = await started(listen, any_free())
    reader, writer = await asyncio.open_connection("127.0.0.1", listen)
    assert await reader.read() == b""
    writer.close()
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 0


def test_the_addresses_have_to_be_given() -> None:
    with pytest.raises(SystemExit, match="usage"):
        forward.main(["127.0.0.1:1"])
