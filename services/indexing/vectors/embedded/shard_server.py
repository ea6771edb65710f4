"""The process that owns the embedded shard: `python -m ...vectors.embedded.shard_server <socket> <parent> <options>`.

The engine holds the interpreter during its calls, so it lives here and not beside an event loop. One thread: receive
what has arrived, serve one request, repeat. Reads go before writes, though a write is never passed over more than
`_READS_BEFORE_WRITE` times; writes keep their order. Idle time is used for flushing and optimising; under steady load
both happen anyway, at bounded intervals.

It ends when its parent does: the kernel kills it (Linux), and everywhere the closed socket ends it. It ignores SIGINT
and SIGTERM, which a terminal or a supervisor sends to the whole group: its parent stops it after the last reply. Killed
at any line it loses nothing it has acknowledged, thanks to the engine's write-ahead log.
"""

import ctypes
import math
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from typing import Any, Final

import orjson

from services.indexing.vectors.embedded import wire
from services.indexing.vectors.embedded.shard import Shard, ShardLocked

_PR_SET_PDEATHSIG: Final = 1
_READS_BEFORE_WRITE: Final = 8
_IDLE_SECONDS: Final = 0.2
_FLUSH_SECONDS: Final = 2.0
_FAILED_FLUSH_SECONDS: Final = 10.0
_OPTIMIZE_IDLE_AFTER: Final = 1_000
_OPTIMIZE_BUSY_AFTER: Final = 20_000


class ShardServer:
    def __init__(self, connection: socket.socket, shard: Shard) -> None:
        self._connection = connection
        self._shard = shard
        self._buffer = wire.FrameBuffer()
        self._reads: deque[wire.Request] = deque()
        self._writes: deque[wire.Request] = deque()
        self._reads_in_a_row = 0
        self._unflushed_since: float | None = None
        self._written = 0
        self._open = True

    def serve(self) -> None:
        """Serve until the peer closes; requests received by then are still done."""
        self._reply({"id": wire.GREETING, "ok": os.getpid()})
        while self._open or self._reads or self._writes:
            self._receive()
            request = self._next()
            if request is not None:
                self._reply(self._answer(request))
            self._maintain(idle=request is None)
        self._shard.close()

    def _receive(self) -> None:
        """Whatever has arrived; waits only when there is nothing else to do."""
        timeout = 0.0 if self._reads or self._writes else self._timeout()
        while self._open and select.select([self._connection], [], [], timeout)[0]:
            data = self._read()
            self._open = bool(data)
            for request in self._buffer.feed(data):
                (self._reads if request["op"] in wire.READS else self._writes).append(request)
            timeout = 0.0 if self._reads or self._writes else self._timeout()

    def _read(self) -> bytes:
        try:
            return self._connection.recv(2**20)
        except ConnectionResetError:  # the peer closed without reading all replies
            return b""

    def _timeout(self) -> float | None:
        upkeep = self._unflushed_since is not None or self._written >= _OPTIMIZE_IDLE_AFTER
        return _IDLE_SECONDS if upkeep else None

    def _next(self) -> wire.Request | None:
        if self._reads and not (self._writes and self._reads_in_a_row >= _READS_BEFORE_WRITE):
            self._reads_in_a_row += 1
            return self._reads.popleft()
        self._reads_in_a_row = 0
        return self._writes.popleft() if self._writes else None

    def _answer(self, request: wire.Request) -> wire.Reply:
        """Refuses a request whose caller has given up, so that it is not applied after later ones."""
        operation = request["op"]
        try:
            if operation not in wire.READS | wire.WRITES:
                raise ValueError(f"unknown operation: {operation}")
            if time.monotonic() >= request.get("until", math.inf):
                raise TimeoutError(f"{operation} came too late")
            answer = getattr(self._shard, operation)(**request["args"])
        except Exception as error:  # noqa: BLE001  # the engine raises plain Exception; the parent maps it
            return {"id": request["id"], "error": f"{type(error).__name__}: {error}", "kind": "failed"}
        self._note(operation, request["args"], answer)
        return {"id": request["id"], "ok": answer}

    def _note(self, operation: str, args: dict[str, Any], answer: object) -> None:
        if operation == "flush":
            self._unflushed_since = None
        elif operation == "optimize":
            self._written = 0
        elif operation in wire.WRITES:
            self._written += len(args["points"]) if operation == "upsert" else answer if isinstance(answer, int) else 1
            if self._unflushed_since is None:
                self._unflushed_since = time.monotonic()

    def _maintain(self, *, idle: bool) -> None:
        now = time.monotonic()
        if self._unflushed_since is not None and now - self._unflushed_since > (0 if idle else _FLUSH_SECONDS):
            self._unflushed_since = None if self._upkeep("flush") else now + _FAILED_FLUSH_SECONDS
        if self._written >= (_OPTIMIZE_IDLE_AFTER if idle else _OPTIMIZE_BUSY_AFTER):
            self._upkeep("optimize")
            self._written = 0

    def _upkeep(self, operation: str) -> bool:
        """A failure (a full disk) is reported and retried later; requests are still served meanwhile."""
        try:
            getattr(self._shard, operation)()
        except Exception as error:  # noqa: BLE001  # the engine raises plain Exception
            sys.stderr.write(f"vector shard: {operation} failed: {error}\n")
            return False
        return True

    def _reply(self, reply: wire.Reply) -> None:
        try:
            self._connection.sendall(wire.encode(reply))
        except (BrokenPipeError, ConnectionResetError):
            return  # no caller waits for it any more; requests already sent are still read to the end


def die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent dies. The closed socket would end us too, but only between calls."""
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit("vector shard: prctl failed")
    if os.getppid() != parent:
        sys.exit("vector shard: the parent is gone")


def main(arguments: list[str]) -> None:
    descriptor, parent, options = int(arguments[0]), int(arguments[1]), orjson.loads(arguments[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with(parent)
    with socket.socket(fileno=descriptor) as connection:
        try:
            shard = Shard(options)
        except Exception as error:  # noqa: BLE001  # whatever it is, the parent must hear it
            kind: wire.ErrorKind = "locked" if isinstance(error, ShardLocked) else "failed"
            connection.sendall(wire.encode({"id": wire.GREETING, "error": str(error), "kind": kind}))
            return
        ShardServer(connection, shard).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
