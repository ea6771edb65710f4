"""Looking at the processes of an extraction pool, through /proc."""

import os
from contextlib import suppress
from pathlib import Path

from tests.support.polling import eventually


def children(process: int) -> list[int]:
    """Processes started by any thread of `process` that still run; not those waiting to be reaped."""
    found = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found += [int(child) for child in task.read_text().split()]
    return [child for child in found if state(child) not in {"Z", ""}]


def state(process: int) -> str:
    """The letter of proc(5), or "" when there is no such process."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def extraction_processes(parent: int | None = None) -> set[int]:
    """The processes of pools in `parent` (this process when None) that have documents read in copies."""
    return {child for template in templates(parent) for child in children(template)}


def templates(parent: int | None = None) -> set[int]:
    """Those that they are forked from."""
    return {child for child in children(parent or os.getpid()) if b"extraction_template" in _command(child)}


def own_megabytes(process: int) -> float:
    """The memory that it shares with no other process; only root may look."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_")) / 1024


async def first_copy(warm: set[int]) -> int:
    """The process that reads a document, as soon as there is one."""

    async def copies() -> list[int]:
        return [copy for process in warm for copy in children(process)]

    return (await eventually(copies))[0]


async def all_gone(processes: set[int]) -> None:
    async def gone() -> bool:
        return all(state(process) == "" for process in processes)

    await eventually(gone)


async def all_ended(processes: set[int]) -> None:
    """They are gone, or wait to be reaped."""

    async def ended() -> bool:
        return all(state(process) in {"Z", ""} for process in processes)

    await eventually(ended)


def _command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
