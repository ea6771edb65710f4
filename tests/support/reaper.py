"""Removes the containers that a test process has made, when that process has ended, however it ended.

    python -m tests.support.reaper RUN

waits for the end of its standard input. Nobody writes there; the kernel closes it with the test process, which holds
the other end. Then it removes what is labelled with RUN: nothing, when the tests have cleaned up behind themselves.
"""

import atexit
import functools
import subprocess
import sys
import uuid
from collections.abc import Mapping
from typing import Final

import docker  # type: ignore[import-untyped]  # ships no annotations

from infra.local.home import ROOT

LABEL: Final = "quarry.tests"


def labels() -> Mapping[str, str]:
    """What to label a container with; from the first call on this process has a reaper. For one thread."""
    run, _ = _reaper()
    return {LABEL: run}


@functools.cache
def _reaper() -> "tuple[str, subprocess.Popen[bytes]]":
    """Held for as long as this process lives: to let go of it is to close its standard input."""
    run = uuid.uuid4().hex
    reaper = subprocess.Popen(
        [sys.executable, "-m", "tests.support.reaper", run],
        stdin=subprocess.PIPE,
        cwd=ROOT,
        # What is typed at the terminal is meant for the tests.
        start_new_session=True,
    )
    atexit.register(_end, reaper)
    return run, reaper


def _end(reaper: "subprocess.Popen[bytes]") -> None:
    reaper.communicate(timeout=60)


def main() -> None:
    sys.stdin.buffer.read()
    client = docker.from_env()
    for container in client.containers.list(all=True, filters={"label": f"{LABEL}={sys.argv[1]}"}):
        container.remove(force=True, v=True)
    client.close()


if __name__ == "__main__":
    main()
