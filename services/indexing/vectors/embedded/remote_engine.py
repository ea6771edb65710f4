"""An engine that another process of the service owns and serves (engine_server.py), used through its Unix socket.

Guarantees what every engine does (engine.py), and also: it starts whether or not the owner is there, and finds the
owner again whenever it returns. Stopping it does not affect the owner.
Does not guarantee: reaching other machines. Processes on several need a Qdrant server.
Fails by: VectorStoreUnavailable, at once for calls under way when the owner dies, after a short wait for those made
while it is away.
"""

import asyncio
from pathlib import Path
from typing import Final

from services.indexing.vectors.embedded import wire
from services.indexing.vectors.embedded.connection import STREAM_LIMIT, Connection
from services.indexing.vectors.embedded.engine_client import EngineClient
from services.indexing.vectors.errors import VectorStoreUnavailable
from shared import telemetry
from shared.resilience import Backoff

_log = telemetry.get_logger(__name__)

_GREETING_SECONDS: Final = 5.0
_SETTLED_SECONDS: Final = 1.0


class RemoteEngine(EngineClient[Connection]):
    def __init__(self, path: Path, *, dimensions: int, call_timeout: float) -> None:
        super().__init__(call_timeout=call_timeout, away="the process that owns the vector store is away")
        self._path = path
        self._dimensions = dimensions

    async def start(self) -> None:
        """Returns at once; calls wait for the owner."""
        if self._watching is not None:
            raise RuntimeError("already started")
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Safe to call twice."""
        connection = await self._end_watch()
        if connection is not None:
            connection.abandon()
            await connection.ended()

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        backoff = Backoff(first=0.05, most=1.0)
        while True:
            began = clock()
            try:
                connection = await self._open()
            except VectorStoreUnavailable as error:
                reason = error.reason
            else:
                self._use(connection)
                _log.info("vector_owner_connected")
                await connection.ended()
                self._connected.clear()
                reason = "it closed the connection"
            if clock() - began > _SETTLED_SECONDS:
                backoff.reset()
            delay = backoff.next()
            if backoff.worth_telling:
                _log.warning("vector_owner_away", reason=reason, retry_in=round(delay, 2))
            await asyncio.sleep(delay)

    async def _open(self) -> Connection:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._path), limit=STREAM_LIMIT)
        except OSError as error:
            raise VectorStoreUnavailable(f"nobody serves {self._path}: {error}") from error
        connection = Connection(reader, writer, peer="the owner", max_frame=wire.SHARED_MAX_FRAME)
        try:
            async with asyncio.timeout(_GREETING_SECONDS):
                greeting = await connection.greeted()
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            connection.abandon()
            raise VectorStoreUnavailable(f"who serves {self._path} does not answer") from error
        except BaseException:
            connection.abandon()
            raise
        expected = {"protocol": wire.SHARED_PROTOCOL, "dimensions": self._dimensions}
        if greeting != expected:
            connection.abandon()
            raise VectorStoreUnavailable(f"the owner speaks of {greeting}, expected {expected}")
        return connection
