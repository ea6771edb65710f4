"""What one document may cost, and what happens to a process that reads one when its parent dies."""

import os
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from services.indexing.pipeline.confinement import kernel

# Reading takes about a tenth of a second for each mebibyte; the slowest format on a slow machine perhaps two seconds.
_CPU_SECONDS_FOR_ANY = 15
_CPU_SECONDS_PER_MEBIBYTE = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may cost.

    `memory_bytes` is address space, including interpreter and parsers (about 120 MB), excluding the document itself.
    `deadline_seconds` is wall-clock time from when a process takes the document, `cpu_seconds` the most processor time,
    `max_characters` and `max_chunks` the most text it may yield. A document that has taken `short_seconds` of processor
    time takes long: from then on all other work of the machine goes first.
    """

    memory_bytes: int = 1024 * 1024 * 1024
    cpu_seconds: int = 60
    deadline_seconds: float = 120.0
    max_characters: int = 32 * 1024 * 1024
    max_chunks: int = 50_000
    short_seconds: float = 0.25

    def for_document(self, size: int) -> "Limits":
        """Processor time grows with the document's size: a few kilobytes may not take as much as a book."""
        allowed = _CPU_SECONDS_FOR_ANY + _CPU_SECONDS_PER_MEBIBYTE * size // 2**20
        return replace(self, cpu_seconds=min(self.cpu_seconds, allowed))

    @property
    def max_answer_bytes(self) -> int:
        """Room for the text as JSON: at most four bytes a character, two for an escaped one, and what goes with chunks.

        That is their places, and a few hundred characters of headings and context.
        """
        return 4 * self.max_characters + 2048 * self.max_chunks + 1024 * 1024


def impose(limits: Limits, document_bytes: int) -> None:
    """Set the limits on this process: memory, time; no files written, no processes started, no new descriptors."""
    _limit(resource.RLIMIT_AS, limits.memory_bytes + document_bytes)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, 0)
    _limit(resource.RLIMIT_NPROC, 0)
    _limit(resource.RLIMIT_CORE, 0)
    # The soft limit kills with SIGXCPU, which tells why; the hard one a second later cannot be caught.
    _limit(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent` dies; exit now if it is dead already.

    Linux only, and until this process changes users. Elsewhere the end of standard input, which the parent holds, has
    the same effect once a document is done.
    """
    if sys.platform == "linux":
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def volunteer_for_the_oom_killer() -> None:
    """When the machine runs out of memory, lose a document rather than the service."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def give_way(process: int) -> None:
    """Give everything else on the machine priority over `process`, from now on."""
    # It may have ended by now.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process, 19)
        if sys.platform == "linux":
            os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))


def _limit(what: int, soft: int, hard: int | None = None) -> None:
    _, ceiling = resource.getrlimit(what)
    wanted = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, wanted = min(soft, ceiling), min(wanted, ceiling)
    resource.setrlimit(what, (soft, wanted))
