"""Names of lease holders, from which another process on the same machine can tell that the holder is dead."""

import os
import socket
import uuid
from pathlib import Path


def new_owner() -> str:
    """`<host>/<process id namespace> <process id> <start time> <random>`.

    Process ids are unique only within their namespace, and are reused; with the start time they are not.
    """
    return f"{_place()} {os.getpid()} {_started(os.getpid())} {uuid.uuid4().hex}"


def is_dead(owner: str) -> bool:
    """True when `owner` was a process of this host and namespace that is gone; False for other hosts."""
    place, *process = owner.split(" ")
    if place != _place() or len(process) != 3 or not process[0].isdecimal():
        return False
    return _started(int(process[0])) != process[1]


def _started(process_id: int) -> str:
    """When the process started, in kernel ticks; empty when there is no such process."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    # The name in parentheses may hold anything; fields are counted after it.
    return stat.rpartition(")")[2].split()[19]


def _place() -> str:
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        # No namespaces here: a name that no other process shares, so that no owner is ever declared dead.
        namespace = uuid.uuid4().hex
    return f"{socket.gethostname()}/{namespace}"
