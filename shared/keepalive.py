"""Noticing that the silent other end of a connection has vanished.

A machine that loses its network closes no connection: its peer would wait for ever. TCP keepalive probes a silent peer
now and then (RFC 9293, 3.8.4), and the user timeout (RFC 5482) ends a connection whose data is not acknowledged: with
these settings both ends know within `NOTICED_SECONDS`. The kernels do this: a process that is stopped or busy is not
taken for one that is gone.
"""

import socket
from collections.abc import Mapping
from typing import Any, Final

IDLE_SECONDS: Final = 5
INTERVAL_SECONDS: Final = 3
PROBES: Final = 3
UNACKNOWLEDGED_SECONDS: Final = 10
NOTICED_SECONDS: Final = IDLE_SECONDS + INTERVAL_SECONDS * PROBES + 1

# The same for Postgres's end, as settings of a session: it ends the session of a client that has vanished, and with it
# its locks, also in the middle of a statement. No effect, and no harm, on a Unix socket.
OF_POSTGRES: Final[Mapping[str, str]] = {
    "tcp_keepalives_idle": str(IDLE_SECONDS),
    "tcp_keepalives_interval": str(INTERVAL_SECONDS),
    "tcp_keepalives_count": str(PROBES),
    "tcp_user_timeout": str(UNACKNOWLEDGED_SECONDS * 1000),
    "client_connection_check_interval": str(IDLE_SECONDS * 1000),
}

# By name: not every system has all of them.
_OPTIONS: Final = {
    "TCP_KEEPIDLE": IDLE_SECONDS,
    "TCP_KEEPINTVL": INTERVAL_SECONDS,
    "TCP_KEEPCNT": PROBES,
    "TCP_USER_TIMEOUT": UNACKNOWLEDGED_SECONDS * 1000,
}


def watch(sock: Any, *, may_stall: bool = False) -> None:
    """Turn keepalive on for a socket, or for an event loop's wrapper of one.

    A Unix socket is left alone: its ends die together. `may_stall`: the peer may take no data for a while without being
    gone, so the user timeout, which would end the connection, is left out.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        if (option := getattr(socket, name, None)) is not None and not (may_stall and name == "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def new_socket(info: tuple[Any, ...], *, may_stall: bool = False) -> socket.socket:
    """A socket for an address as `getaddrinfo` describes it; aiohttp's `socket_factory`."""
    family, kind, protocol = info[:3]
    sock = socket.socket(family, kind, protocol)
    watch(sock, may_stall=may_stall)
    return sock
