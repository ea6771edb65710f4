"""Restarts after a crash or on request, what changes mean for whom, and the one log."""

import asyncio
import io
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.local import supervision
from infra.local.console import Console
from infra.local.errors import ProcessError
from infra.local.processes import Process
from infra.local.reload import changes, concerned
from infra.local.supervision import Supervised
from shared.topology import SERVICES
from tests.support.polling import eventually


@asynccontextmanager
async def supervising(code: str, attempts: int | None = None) -> AsyncIterator[tuple[Process, Supervised, list[str]]]:
    said: list[str] = []
    process = Process("test", [sys.executable, "-c", code], env=dict(os.environ))
    supervised = Supervised(process, process.start, said.append, attempts=attempts)
    task = asyncio.ensure_future(supervised.run())
    try:
        yield process, supervised, said
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await process.stop()


async def pid_other_than(process: Process, former: int | None) -> int | None:
    return process.pid if process.pid != former else None


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_FIRST_PAUSE", 0.01)


async def test_a_killed_process_is_started_again(short_pauses: None) -> None:
    async with supervising("import time; time.sleep(60)") as (process, _, said):
        first = await eventually(lambda: pid_other_than(process, None))
        process.kill()
        await eventually(lambda: pid_other_than(process, first))
        assert said == [f"test ended with status {-signal.SIGKILL}; restarting in 0.01 s"]


async def test_pauses_grow_with_every_failure_in_a_row(short_pauses: None) -> None:
    async with supervising("import sys; sys.exit(3)") as (_, _, said):
        await eventually(lambda: _at_least(said, 4))
    assert [float(line.split()[-2]) for line in said[:4]] == [0.01, 0.02, 0.04, 0.08]


async def test_a_long_life_resets_the_pauses(short_pauses: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_HEALTHY_AFTER", 0.0)
    async with supervising("import sys; sys.exit(3)") as (_, _, said):
        await eventually(lambda: _at_least(said, 3))
    assert [line.split()[-2] for line in said[:3]] == ["0.01"] * 3


async def test_a_restart_on_request_has_no_pause() -> None:
    async with supervising("import time; time.sleep(60)") as (process, supervised, said):
        first = await eventually(lambda: pid_other_than(process, None))
        supervised.restart()
        await eventually(lambda: pid_other_than(process, first), within=5)
        assert said == []


async def test_a_request_ends_a_pause(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(supervision, "_FIRST_PAUSE", 600.0)
    monkeypatch.setattr(supervision, "_LONGEST_PAUSE", 500.0)
    code = f"import pathlib, sys, time; pathlib.Path({str(folder / 'fixed')!r}).exists() or sys.exit(1); time.sleep(60)"
    async with supervising(code) as (process, supervised, said):
        await eventually(lambda: _at_least(said, 1))
        assert said == ["test ended with status 1; restarting in 500 s"]
        (folder / "fixed").touch()
        former = process.pid
        supervised.restart()
        await eventually(lambda: pid_other_than(process, former), within=5)


async def test_giving_up_names_the_last_problem(short_pauses: None) -> None:
    said: list[str] = []
    process = Process("test", [sys.executable, "-c", ""], env={})

    async def fail() -> None:
        raise ProcessError("no room")

    with pytest.raises(ProcessError, match="no room"):
        await Supervised(process, fail, said.append, attempts=3).run()
    assert len(said) == 2


@pytest.mark.parametrize(
    ("path", "services"),
    [
        ("services/projects/main.py", {"projects"}),
        ("services/indexing/pipeline/chunks.py", {"indexing"}),
        ("services/indexing/migrations/versions/0001.py", set()),
        ("services/unknown/main.py", set()),
        ("services/__init__.py", set(SERVICES)),
        ("shared/outbox.py", set(SERVICES)),
        ("shared/migrations.py", set(SERVICES)),
    ],
)
def test_a_change_concerns_who_has_loaded_the_file(path: str, services: set[str]) -> None:
    assert concerned(Path("/project") / path, Path("/project")) == services


async def test_changes_are_seen(project: Path) -> None:
    async def first() -> tuple[frozenset[str], Path]:
        return await anext(aiter(changes(project)))

    seen = asyncio.ensure_future(first())
    number = 0

    async def touched() -> bool:
        # The watch is not announced when it begins: write until it has been seen.
        nonlocal number
        number += 1
        (project / "services" / "gateway" / "migrations").mkdir(exist_ok=True)
        (project / "services" / "gateway" / "migrations" / "one.py").write_text(str(number))
        (project / "services" / "notifier" / "main.py").write_text(f"# {number}")
        return seen.done()

    await eventually(touched, every=0.2)
    services, path = await seen
    assert services == {"notifier"}
    assert path.parts[0] == "services"


def test_lines_of_all_processes_stand_under_their_names() -> None:
    out = io.StringIO()
    console = Console(out, colour=False)
    console.line("identity", "one")
    console.say("two\nthree")
    assert out.getvalue() == "identity | one\nquarry   | two\nquarry   | three\n"


def test_each_process_has_a_colour_on_a_terminal() -> None:
    out = io.StringIO()
    console = Console(out, colour=True)
    for name in (*SERVICES, SERVICES[0]):
        console.line(name, "x")
    colours = re.findall(r"\033\[(\d\d)m\w", out.getvalue())
    assert len(set(colours)) == len(SERVICES)
    assert colours[0] == colours[-1]


def test_everyday_lines_are_left_out() -> None:
    out = io.StringIO()
    console = Console(out, colour=False)
    console.line("postgres", "LOG:  checkpoint starting")
    console.line("postgres", "ERROR:  duplicate key value violates unique constraint")
    console.line("redis", "12:M 23 Nov 2026 04:04:14.644 * Ready to accept connections unix")
    console.line("identity", "INFO:     Started server process [12]")
    assert out.getvalue() == ""
    console.line("postgres", "FATAL:  could not write lock file: No space left on device")
    console.line("redis", "12:M 23 Nov 2026 04:04:14.644 # Can't save in background: fork: Cannot allocate memory")
    console.line("identity", "ERROR:    Error loading ASGI app.")
    assert len(out.getvalue().splitlines()) == 3


async def _at_least(said: list[str], count: int) -> bool:
    return len(said) >= count
