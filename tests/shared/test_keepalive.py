"""Connections whose other end may vanish are watched by the kernel."""

import socket

import pytest

from shared import keepalive


def _options(sock: socket.socket) -> dict[str, int]:
    tcp = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    found = {name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in tcp}
    return {"SO_KEEPALIVE": sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), **found}


@pytest.mark.parametrize("may_stall", [False, True])
def test_a_new_socket_notices_that_its_peer_has_vanished(may_stall: bool) -> None:
    info = socket.getaddrinfo("127.0.0.1", 9, type=socket.SOCK_STREAM)[0]
    with keepalive.new_socket(info, may_stall=may_stall) as sock:
        assert _options(sock) == {
            "SO_KEEPALIVE": 1,
            "TCP_KEEPIDLE": keepalive.IDLE_SECONDS,
            "TCP_KEEPINTVL": keepalive.INTERVAL_SECONDS,
            "TCP_KEEPCNT": keepalive.PROBES,
            "TCP_USER_TIMEOUT": 0 if may_stall else keepalive.UNACKNOWLEDGED_SECONDS * 1000,
        }
    assert keepalive.NOTICED_SECONDS <= 15


def test_a_unix_socket_is_left_alone() -> None:
    left, right = socket.socketpair()
    with left, right:
        keepalive.watch(left)
        assert left.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
