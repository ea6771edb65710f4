"""Who holds a lease: a name from which another process on the same machine can tell that its bearer is dead."""

import os
import socket
import uuid
from pathlib import Path


def new_owner() -> str:
    """`<host>/<process id namespace> <process id> <start time> <random>`.

    Process ids mean something only within their namespace, and are used again; with the time of a start they are not.
    """
    return f"{_place()} {os.getpid()} {_started(os.getpid())} {uuid.uuid4().hex}"


def is_dead(owner: str) -> bool:
    """True when `owner` was a process of this place that is gone; of other places nothing can be said."""
    place, *process = owner.split(" ")
    if place != _place() or len(process) != 3 or not process[0].isdecimal():
        return False
    return _started(int(process[0])) != process[1]


def _started(process_id: int) -> str:
    """When the process started, in the kernel's ticks; empty when there is none."""
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
        # No such thing here: a name that no other process shares, so that nothing is said of anybody.
        namespace = uuid.uuid4().hex
    return f"{socket.gethostname()}/{namespace}"
