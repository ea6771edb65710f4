"""What a process costs while it cannot do its work: CPU seconds of its whole tree, and lines in its log."""

import asyncio
import os
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from infra.local.processes import Process


@dataclass(frozen=True, slots=True)
class Reading:
    """Cost of one process and its descendants over a while.

    cpu: share of one processor, 0.2 is 20%. lines: log lines a second.
    """

    name: str
    cpu: float
    lines: float

    def __str__(self) -> str:
        return f"{self.name}: {self.cpu:.1%} CPU, {self.lines:.1f} lines/s"


def stretched(seconds: float) -> float:
    """A bound that holds on a machine with nothing else to do, as it holds on this one: longer by as much as there is
    more to run than processors to run it."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


async def measure(processes: Iterable[Process], *, seconds: float) -> list[Reading]:
    """Watch running processes for a while."""
    watched = list(processes)
    mark = f"--- measured from here {uuid.uuid4().hex} ---"
    for process in watched:
        process.say(mark)
    before = {process.name: _cpu_seconds(process) for process in watched}
    started = time.monotonic()
    await asyncio.sleep(seconds)
    elapsed = time.monotonic() - started
    return [
        Reading(
            process.name,
            cpu=(_cpu_seconds(process) - before[process.name]) / elapsed,
            lines=_lines_since(process, mark) / elapsed,
        )
        for process in watched
    ]


def _cpu_seconds(process: Process) -> float:
    """User and system time of the tree, of its finished members too."""
    assert process.pid is not None, f"{process.name} does not run"
    top = psutil.Process(process.pid)
    used = top.cpu_times()
    total = used.user + used.system + used.children_user + used.children_system
    for child in top.children(recursive=True):
        times = child.cpu_times()
        total += times.user + times.system
    return float(total)


def _lines_since(process: Process, mark: str) -> int:
    """Lines after the mark; all that the log holds when there were so many that the mark has left it."""
    lines = process.log
    return len(lines) - 1 - lines.index(mark) if mark in lines else len(lines)
