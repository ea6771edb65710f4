"""What a process that reads untrusted files may use, and what happens to it when its parent dies."""

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may cost.

    `memory_bytes` is address space, interpreter and parsers (about 65 MB) included. `deadline_seconds` is wall-clock
    time from when a process takes the document, `cpu_seconds` its processor time, `max_characters` the most text it may
    yield.
    """

    memory_bytes: int = 1024 * 1024 * 1024
    cpu_seconds: int = 60
    deadline_seconds: float = 120.0
    max_characters: int = 32 * 1024 * 1024
    open_files: int = 32

    @property
    def max_frame_bytes(self) -> int:
        """Room for the text as JSON: at most four bytes a character, and two for an escaped one."""
        return 4 * self.max_characters + 1024 * 1024


def confine(limits: Limits) -> None:
    """Give up, for good, what reading one document does not need: memory, time, writing files, starting processes."""
    _limit(resource.RLIMIT_AS, limits.memory_bytes)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, limits.open_files)
    _limit(resource.RLIMIT_NPROC, 0)
    _limit(resource.RLIMIT_CORE, 0)
    # The soft limit kills with SIGXCPU, which tells why; the hard one a second later cannot be caught.
    _limit(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1)
    if sys.platform == "linux":
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent` dies; exit now if it is dead already.

    Linux only. Elsewhere the end of standard input, which the parent holds, does the same once a document is done.
    """
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def volunteer_for_the_oom_killer() -> None:
    """When the machine runs out of memory, lose a document rather than the service."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _limit(what: int, soft: int, hard: int | None = None) -> None:
    _, ceiling = resource.getrlimit(what)
    wanted = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, wanted = min(soft, ceiling), min(wanted, ceiling)
    resource.setrlimit(what, (soft, wanted))


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")
