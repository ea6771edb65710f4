"""Loopback ports that stay the same from one start to the next, as long as they are free."""

import socket
from collections.abc import Collection, Mapping
from pathlib import Path

from infra.local.home import read_json, write_json

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do it: lingering connections of an earlier run are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def allocate(memory: Path, wanted: Mapping[str, int | None]) -> dict[str, int]:
    """A port for each name: the wanted one, else the remembered one, else any; the first that is free.

    The result is remembered in the file `memory`. Nothing holds a port until its server binds it.
    """
    remembered = read_json(memory)
    ports: dict[str, int] = {}
    for name, preferred in wanted.items():
        candidates = [preferred, remembered.get(name)]
        free = (port for port in candidates if isinstance(port, int) and port not in ports.values() and is_free(port))
        ports[name] = next(free, 0) or any_free(ports.values())
    if ports != remembered:
        write_json(memory, ports)
    return ports


def any_free(taken: Collection[int] = ()) -> int:
    """A port that is free now and not among `taken`."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
        if port not in taken:
            return port
