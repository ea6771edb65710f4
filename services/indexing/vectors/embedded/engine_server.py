"""The owner's side of a shared engine: other processes of the service call it through a Unix socket.

    RemoteEngine (remote_engine.py) ---- socket ---- EngineServer ---- the owner's engine

Guarantees: one caller's requests are forwarded in the order they were sent, and replied to when the owner's engine has
replied; nothing is forwarded after its caller gave up or left. Callers take turns, reads apart from writes, so that no
caller waits behind another's flood and no search behind a batch. A violation of the protocol ends only that connection.
Bounded: connections, frames, requests under way for each.
Does not guarantee: any protection against processes that may open the socket. That is up to the file system: the socket
is accessible to its owner only, and so is its folder when it is made here.
Fails by: closing connections. Callers find the next owner by themselves.
"""

import asyncio
import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from services.indexing.vectors.embedded import wire
from services.indexing.vectors.embedded.connection import STREAM_LIMIT
from services.indexing.vectors.errors import VectorStoreUnavailable
from shared import telemetry
from shared.fair_semaphore import FairSemaphore

_log = telemetry.get_logger(__name__)

_CONNECTIONS: Final = 64
_UNDER_WAY: Final = 64
_READS_AT_ONCE: Final = 32
_WRITES_AT_ONCE: Final = 8
_LONGEST_CALL_SECONDS: Final = 60.0
_SEND_SECONDS: Final = 10.0
_LAST_ANSWERS_SECONDS: Final = 5.0


class Called(Protocol):
    """The engine that is served."""

    async def call(self, op: str, args: dict[str, Any], until: float) -> Any: ...


class ProtocolViolation(Exception):
    """A frame that no process of this service sends."""


class EngineServer:
    """Serves `engine` at `path` between `start` and `stop`. `dimensions` is part of the greeting."""

    def __init__(self, engine: Called, path: Path, *, dimensions: int, connections: int = _CONNECTIONS) -> None:
        self.engine = engine
        self.reads = FairSemaphore(_READS_AT_ONCE)
        self.writes = FairSemaphore(_WRITES_AT_ONCE)
        self._path = path
        self._greeting = {"protocol": wire.SHARED_PROTOCOL, "dimensions": dimensions}
        self._most = connections
        self._callers: set[_Caller] = set()
        self._server: asyncio.Server | None = None
        self._open = False
        self._inode = 0

    async def start(self) -> None:
        """Replaces any existing socket: a process that starts this already owns the engine.

        Raises:
            VectorStoreUnavailable: the socket cannot be created at this path.
        """
        try:
            listener = await asyncio.to_thread(_bind, self._path)
            self._inode = (await asyncio.to_thread(self._path.stat)).st_ino
        except OSError as error:
            raise VectorStoreUnavailable(f"cannot listen at {self._path}: {error}") from error
        self._open = True  # before it listens: a caller may be waiting already
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=STREAM_LIMIT)

    async def stop(self) -> None:
        """Takes no more requests, replies to those under way, and closes. Safe to call twice."""
        server, self._server = self._server, None
        self._open = False
        if server is None:
            return
        server.close()
        await asyncio.to_thread(self._remove)
        if self._callers:
            await asyncio.wait([asyncio.create_task(caller.finish()) for caller in self._callers])

    def _remove(self) -> None:
        """Remove the socket unless a successor's is there already."""
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open or len(self._callers) >= self._most:
            reason = "too many connections" if self._open else "it is stopping"
            writer.write(wire.encode({"id": wire.GREETING, "error": reason, "kind": "failed"}))
            writer.close()
            return
        caller = _Caller(self, reader, writer)
        self._callers.add(caller)
        writer.write(wire.encode({"id": wire.GREETING, "ok": self._greeting}))
        try:
            await caller.converse()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the caller left, which is how every connection ends
        except (ProtocolViolation, wire.FrameTooLarge) as error:
            _log.warning("vector_caller_refused", reason=str(error))
        finally:
            self._callers.discard(caller)
            caller.left()


class _Caller:
    """One connection."""

    def __init__(self, server: EngineServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._room = asyncio.Semaphore(_UNDER_WAY)
        self._under_way: set[asyncio.Task[None]] = set()
        self._reading = asyncio.create_task(self._read())
        self._finishing = False

    async def converse(self) -> None:
        """Serve until the stream ends, the protocol is broken, or `finish` ends the reading."""
        try:
            await asyncio.wait([self._reading])
        finally:
            self._reading.cancel()
        if not self._reading.cancelled():
            self._reading.result()

    async def _read(self) -> None:
        while True:
            await self._room.acquire()
            request = _request(await wire.read_body(self._reader, wire.SHARED_MAX_FRAME))
            answering = asyncio.create_task(self._answer(request))
            self._under_way.add(answering)
            answering.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._room.release()

    async def finish(self) -> None:
        """Reads nothing more; requests under way still get replies, for a limited time."""
        self._finishing = True
        self._reading.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_LAST_ANSWERS_SECONDS)
        self._close()

    def left(self) -> None:
        """The caller disconnected: it does not wait for the replies under way."""
        if not self._finishing:
            self._close()

    def _close(self) -> None:
        for task in self._under_way:
            task.cancel()
        self._writer.close()

    async def _answer(self, request: wire.Request) -> None:
        turns = self._server.reads if request["op"] in wire.READS else self._server.writes
        async with turns.turn(self):
            reply = await self._forward(request)
        try:
            frame = wire.encode(reply, wire.SHARED_MAX_FRAME)
        except wire.FrameTooLarge as error:
            frame = wire.encode({"id": request["id"], "error": f"the answer is {error}", "kind": "failed"})
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                self._writer.write(frame)
                await self._writer.drain()
        except (TimeoutError, ConnectionError):
            self._writer.transport.abort()  # it reads no replies

    async def _forward(self, request: wire.Request) -> wire.Reply:
        until = min(request["until"], time.monotonic() + _LONGEST_CALL_SECONDS)
        try:
            return {"id": request["id"], "ok": await self._server.engine.call(request["op"], request["args"], until)}
        except VectorStoreUnavailable as error:
            return {"id": request["id"], "error": error.reason, "kind": "failed"}


def _request(body: bytes) -> wire.Request:
    try:
        match orjson.loads(body):
            case {"id": int(id), "op": str(op), "args": dict(args), "until": until} if id > 0:
                if type(until) in {int, float}:  # JSON's true is an int as well
                    return wire.Request(id=id, op=op, args=args, until=until)
    except orjson.JSONDecodeError as error:
        raise ProtocolViolation("a frame that is not JSON") from error
    raise ProtocolViolation("a frame that is not a request")


def _bind(path: Path) -> socket.socket:
    """A socket bound at `path`, accessible to its owner only from the start: connecting fails before it listens."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(fresh))
        fresh.chmod(0o600)
        fresh.rename(path)
    except OSError:
        listener.close()
        raise
    return listener
