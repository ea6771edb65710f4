"""One life of the shard's process, from spawning it to its end."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import orjson

from services.indexing.vectors import wire
from services.indexing.vectors.errors import VectorStoreLocked, VectorStoreUnavailable

_OPEN_SECONDS: Final = 60.0
"""Beyond the wait for the lock: a shard that was killed replays its write-ahead log before it serves."""
_CLOSE_SECONDS: Final = 10.0
_PROGRAM: Final = "services.indexing.vectors.shard_process"
_ROOT: Final = Path(__file__).parents[3]


class ShardConnection:
    """Made by `open`. `ended` returns once the process is gone, whatever the cause."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[wire.Reply]] = {}
        self._last_id = wire.GREETING
        self._receiving: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(cls, options: Mapping[str, object], lock_timeout: float) -> Self:
        """A serving process; raises VectorStoreLocked or VectorStoreUnavailable, and leaves none behind."""
        ours, theirs = socket.socketpair()
        try:
            process = await _spawn(theirs, options)
        except OSError as error:
            ours.close()
            raise VectorStoreUnavailable(f"the shard's process cannot start: {error}") from error
        finally:
            theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        connection = cls(process, reader, writer)
        try:
            async with asyncio.timeout(lock_timeout + _OPEN_SECONDS):
                await connection._greeted()
        except BaseException as error:
            await connection._abandon()
            if isinstance(error, TimeoutError | asyncio.IncompleteReadError | ConnectionError):
                raise VectorStoreUnavailable("the shard's process did not come up") from error
            raise
        connection._receiving = asyncio.create_task(connection._receive())
        return connection

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self._closed

    async def call(self, op: str, args: Mapping[str, Any], seconds: float) -> Any:
        """What the operation answers, as JSON. Raises VectorStoreUnavailable on failure, death or deadline."""
        if self._closed:
            raise VectorStoreUnavailable("the shard's process has ended")
        self._last_id += 1
        call_id, reply = self._last_id, asyncio.get_running_loop().create_future()
        self._waiting[call_id] = reply
        try:
            async with asyncio.timeout(seconds):
                self._writer.write(wire.encode({"id": call_id, "op": op, "args": dict(args)}))
                await self._writer.drain()
                answer: wire.Reply = await reply
        except TimeoutError as error:
            raise VectorStoreUnavailable(f"{op} was not answered in {seconds} s") from error
        except ConnectionError as error:
            raise VectorStoreUnavailable(f"the shard's process ended during {op}") from error
        finally:
            self._waiting.pop(call_id, None)
            reply.cancel()
        if "error" in answer:
            raise VectorStoreUnavailable(f"{op} failed: {answer['error']}")
        return answer["ok"]

    async def ended(self) -> int:
        """Waits for the end of the process; its exit status."""
        if self._receiving is not None:
            await asyncio.wait([self._receiving])
            self._writer.close()
        return await self._process.wait()

    async def close(self) -> None:
        """What was asked for is still answered by the process, which then flushes and ends; killed if it does not."""
        if not self._closed:
            self._writer.write_eof()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.ended()
        except TimeoutError:
            await self._abandon()

    async def _abandon(self) -> None:
        self._writer.close()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def _greeted(self) -> None:
        reply = await self._read()
        if "error" in reply:
            failure = VectorStoreLocked if reply["kind"] == "locked" else VectorStoreUnavailable
            raise failure(reply["error"])

    async def _read(self) -> wire.Reply:
        header = await self._reader.readexactly(wire.HEADER.size)
        reply: wire.Reply = orjson.loads(await self._reader.readexactly(wire.body_length(header)))
        return reply

    async def _receive(self) -> None:
        try:
            while True:
                reply = await self._read()
                waiting = self._waiting.get(reply["id"])
                if waiting is not None and not waiting.done():
                    waiting.set_result(reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the process is gone, which is how it always ends
        finally:
            self._closed = True
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionResetError())


async def _spawn(theirs: socket.socket, options: Mapping[str, object]) -> Process:
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        _PROGRAM,
        str(theirs.fileno()),
        str(os.getpid()),
        orjson.dumps(options).decode(),
        pass_fds=[theirs.fileno()],
        stdin=DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )
