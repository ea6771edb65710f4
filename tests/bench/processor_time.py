"""How much processes compute: unlike the clock on the wall, not stretched by other work on the machine."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil

from tests.support.system import System


def families(system: System) -> dict[str, list[psutil.Process]]:
    """The processes of each service and server: itself and its children."""
    found = {name: service.pid for name, service in system.services.items()}
    found |= {server.process.name: server.process.pid for server in system.stack.servers}
    return {name: family(pid) for name, pid in found.items() if pid}


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


@contextmanager
def measured(system: System, **more: int | None) -> Iterator[dict[str, float]]:
    """Seconds that each service, each server and the processes in `more` compute inside the block, to be read after it.
    What a process computed that ended inside the block is left out."""

    def spent() -> dict[str, float]:
        processes = {**families(system), **{name: family(pid) for name, pid in more.items() if pid}}
        return {name: sum(_seconds(member) for member in members) for name, members in processes.items()}

    seconds: dict[str, float] = {}
    before = spent()
    yield seconds
    seconds.update({name: after - before[name] for name, after in spent().items()})


def each(seconds: Mapping[str, float], count: int) -> str:
    """Milliseconds per one of `count`, by process; those that computed nothing are left out."""
    shares = {name: 1000 * total / max(1, count) for name, total in seconds.items()}
    return ", ".join(f"{name} {share:.2f}" for name, share in shares.items() if share >= 0.01)


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
