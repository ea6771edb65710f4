"""The parent's connection to one shard process, from spawning it until it ends."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import orjson

from services.indexing.vectors.embedded.connection import STREAM_LIMIT, Connection
from services.indexing.vectors.errors import VectorStoreUnavailable

_OPEN_SECONDS: Final = 60.0
"""Beyond the wait for the lock: a shard that was killed replays its write-ahead log before it serves."""
_CLOSE_SECONDS: Final = 10.0
_PROGRAM: Final = "services.indexing.vectors.embedded.shard_server"
_ROOT: Final = Path(__file__).parents[3]


class ShardConnection:
    """Made by `open`. `ended` returns once the process is gone, whatever the cause."""

    def __init__(self, process: Process, connection: Connection) -> None:
        self._process = process
        self._connection = connection

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
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=STREAM_LIMIT)
        opened = cls(process, Connection(reader, writer, peer="the shard's process"))
        try:
            async with asyncio.timeout(lock_timeout + _OPEN_SECONDS):
                await opened._connection.greeted()
        except BaseException as error:
            await opened._abandon()
            if isinstance(error, TimeoutError | asyncio.IncompleteReadError | ConnectionError):
                raise VectorStoreUnavailable("the shard's process did not come up") from error
            raise
        return opened

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._connection.alive

    async def call(self, op: str, args: Mapping[str, Any], until: float) -> Any:
        return await self._connection.call(op, args, until)

    async def ended(self) -> int:
        """Waits for the end of the process; returns its exit status."""
        await self._connection.ended()
        return await self._process.wait()

    async def close(self) -> None:
        """The process replies to requests under way, then flushes and ends; it is killed if it does not."""
        self._connection.finish()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.ended()
        except TimeoutError:
            await self._abandon()

    async def _abandon(self) -> None:
        self._connection.abandon()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


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
