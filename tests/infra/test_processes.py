"""Supervised processes: nothing lost of what they say, nothing left of them when they end."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from infra.local.errors import ProcessError
from infra.local.processes import SUPERVISED, Process, leftovers, stop_leftovers
from tests.support.polling import eventually

SLEEP = "import time; time.sleep(60)"


def python(code: str, **options: object) -> Process:
    return Process("test", [sys.executable, "-u", "-c", code], env=dict(os.environ), **options)  # type: ignore[arg-type]


async def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_output_and_status_are_kept() -> None:
    heard: list[tuple[str, str]] = []
    process = python(
        "import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)",
        on_line=lambda name, line: heard.append((name, line)),
    )
    await process.start()
    assert await process.wait() == 3
    assert process.returncode == 3
    assert not process.running
    assert process.pid is None
    assert process.log == ["one", "two"]
    assert heard == [("test", "one"), ("test", "two")]


async def test_a_flood_of_output_does_not_block_the_process() -> None:
    process = python("for _ in range(20_000): print('x' * 100)")
    await process.start()
    assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_stop_asks_first() -> None:
    process = python(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('ready')\n"
        "time.sleep(60)"
    )
    await process.start()
    await eventually(lambda: _said(process, "ready"))
    assert await process.stop() == 7
    assert await process.stop() == 7


async def test_stop_insists_when_asking_does_not_help() -> None:
    process = python(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready')\ntime.sleep(60)",
        stop_signals=((signal.SIGTERM, 0.2),),
    )
    await process.start()
    await eventually(lambda: _said(process, "ready"))
    assert await process.stop() == -signal.SIGKILL


async def test_a_frozen_process_can_be_thawed_and_stopped() -> None:
    process = python(SLEEP)
    await process.start()
    assert process.pid is not None
    inner = psutil.Process(process.pid)
    process.freeze()
    await eventually(lambda: _is(inner, psutil.STATUS_STOPPED))
    process.thaw()
    await eventually(lambda: _is(inner, psutil.STATUS_SLEEPING))
    process.freeze()
    began = time.monotonic()
    assert await process.stop() == -signal.SIGTERM
    assert time.monotonic() - began < 5


async def test_descendants_do_not_survive_a_killed_process() -> None:
    process = python(
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); print(p.pid); p.wait()"
    )
    await process.start()
    await eventually(lambda: _said(process, ""))
    grandchild = int(process.log[0])
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    await eventually(lambda: gone(grandchild))


async def test_a_process_may_be_started_again_but_not_twice_at_once() -> None:
    process = python(SLEEP)
    assert process.returncode is None
    assert await process.stop() is None
    with pytest.raises(ProcessError, match="never started"):
        await process.wait()
    await process.start()
    first = process.pid
    with pytest.raises(ProcessError, match="already running"):
        await process.start()
    process.kill()
    await process.wait()
    process.freeze()
    await process.start()
    assert process.pid not in (None, first)
    await process.stop()


async def test_a_missing_program_is_named() -> None:
    process = Process("test", ["/no/such/program"], env={})
    await process.start()
    assert await process.wait() == 1
    assert process.log == ["cannot run /no/such/program: No such file or directory"]


async def test_a_missing_folder_is_an_error(folder: Path) -> None:
    with pytest.raises(ProcessError, match="test cannot start"):
        await python(SLEEP, cwd=folder / "missing").start()


async def test_children_die_with_a_supervisor_that_is_killed() -> None:
    code = (
        "import asyncio, os, sys\n"
        "from infra.local.processes import Process\n"
        f"child = Process('child', [sys.executable, '-c', {SLEEP!r}], env=dict(os.environ))\n"
        "async def main():\n"
        "    await child.start()\n"
        "    print(child.pid, flush=True)\n"
        "    await child.wait()\n"
        "asyncio.run(main())\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    child = int(supervisor.stdout.readline())
    assert psutil.pid_exists(child)
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    await eventually(lambda: gone(child))


async def test_signals_that_python_ignores_reach_the_program_unchanged() -> None:
    process = python("import signal; print(signal.getsignal(signal.SIGPIPE))")
    process.argv = ["/bin/sh", "-c", "kill -PIPE $$; echo survived"]
    await process.start()
    assert await process.wait() == -signal.SIGPIPE
    assert process.log == []


async def test_leftovers_of_a_home_are_found_and_ended(folder: Path) -> None:
    marked = subprocess.Popen([sys.executable, "-c", SLEEP], env={**os.environ, SUPERVISED: str(folder)})
    other = subprocess.Popen([sys.executable, "-c", SLEEP], env={**os.environ, SUPERVISED: f"{folder}-other"})
    try:
        await eventually(lambda: _found(folder, marked.pid))
        assert await stop_leftovers(folder) == [marked.pid]
        assert marked.wait() == -signal.SIGTERM
        assert other.poll() is None
        assert await stop_leftovers(folder) == []
    finally:
        other.kill()
        other.wait()


def test_a_process_outlives_the_event_loop_that_started_it() -> None:
    process = python(SLEEP)
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        first.run_until_complete(process.start())
        first.close()
        assert process.running
        assert second.run_until_complete(process.stop()) == -signal.SIGTERM
    finally:
        second.close()


async def _said(process: Process, word: str) -> bool:
    return any(word in line for line in process.log)


async def _is(process: psutil.Process, status: str) -> bool:
    return bool(process.status() == status)


async def _found(home: Path, pid: int) -> bool:
    return leftovers(home) == [pid]
