"""The embedded engine as the service sees it: a child process that owns the shard, watched and restarted.

    EmbeddedEngine ---- ShardConnection (one life of the child) ---- shard_process.py ---- shard.py

- Concurrent calls share one socket; each has an id and a deadline. Writes under way are bounded, and so are frames, so
  that a search never waits behind a large batch.
- When the child dies, calls in flight fail with VectorStoreUnavailable and the child is started again, at once and then
  with exponential backoff. A call made meanwhile waits for it for a short time.
- One process owns the directory: a second start waits `lock_timeout` for the first to go, then raises
  VectorStoreLocked. That is why roles scaled apart into several processes need a Qdrant server.
- The child cannot outlive this process, nor the thread that started it: start from the main thread.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from services.indexing.vectors.engine import INDEXES, Condition, EnginePoint, EngineRecord, EngineSearch, Payload
from services.indexing.vectors.errors import VectorStoreUnavailable
from services.indexing.vectors.points import MAX_WINDOW
from services.indexing.vectors.shard_connection import ShardConnection
from shared import telemetry

_log = telemetry.get_logger(__name__)

_FRAME_POINTS: Final = 64
_WRITES_UNDER_WAY: Final = 8
_PATIENCE_SECONDS: Final = 2.0
_FIRST_BACKOFF_SECONDS: Final = 0.1
_LAST_BACKOFF_SECONDS: Final = 5.0
_SETTLED_SECONDS: Final = 30.0


class EmbeddedEngine:
    def __init__(
        self,
        path: Path,
        *,
        dimensions: int,
        average_chunk_tokens: float,
        lock_timeout: float,
        call_timeout: float,
        indexing_threshold_kb: int = 10_000,
    ) -> None:
        self._options: Mapping[str, object] = {
            "path": str(path),
            "dimensions": dimensions,
            "average_chunk_tokens": average_chunk_tokens,
            "depth": MAX_WINDOW,
            "indexing_threshold_kb": indexing_threshold_kb,
            "indexes": dict(INDEXES),
            "lock_timeout": lock_timeout,
        }
        self._lock_timeout = lock_timeout
        self._call_timeout = call_timeout
        self._connection: ShardConnection | None = None
        self._connected = asyncio.Event()
        self._writing = asyncio.Semaphore(_WRITES_UNDER_WAY)
        self._watching: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id while it serves."""
        return self._connection.pid if self._connection is not None and self._connection.alive else None

    async def start(self) -> None:
        """Raises VectorStoreLocked, or VectorStoreUnavailable when the shard cannot be opened."""
        if self._watching is not None:
            raise RuntimeError("already started")
        self._use(await ShardConnection.open(self._options, self._lock_timeout))
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Flushes and ends the child. Safe to call twice."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        connection, self._connection = self._connection, None
        self._connected.clear()
        if connection is not None:
            await connection.close()

    def _use(self, connection: ShardConnection) -> None:
        self._connection = connection
        self._connected.set()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = 0.0
        while self._connection is not None:
            since = loop.time()
            status = await self._connection.ended()
            self._connected.clear()
            if loop.time() - since > _SETTLED_SECONDS:
                backoff = 0.0
            _log.warning("vector_shard_ended", exit_status=status, restart_in_seconds=backoff)
            self._use(await self._reopened(backoff))
            backoff = _longer(backoff)

    async def _reopened(self, backoff: float) -> ShardConnection:
        while True:
            await asyncio.sleep(backoff)
            try:
                return await ShardConnection.open(self._options, self._lock_timeout)
            except VectorStoreUnavailable as error:
                backoff = _longer(backoff)
                _log.error("vector_shard_cannot_start", reason=error.reason, restart_in_seconds=backoff)

    async def _call(self, op: str, seconds: float | None = None, /, **args: Any) -> Any:
        if self._watching is None:
            raise VectorStoreUnavailable("the vector store is not started")
        connection = self._connection
        if connection is None or not connection.alive:
            connection = await self._reconnected()
        return await connection.call(op, args, seconds or self._call_timeout)

    async def _reconnected(self) -> ShardConnection:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while self._connection is None or not self._connection.alive:
                    self._connected.clear()
                    await self._connected.wait()
                return self._connection
        except TimeoutError as error:
            raise VectorStoreUnavailable("the shard's process is restarting") from error

    async def ping(self) -> None:
        await self._call("ping", _PATIENCE_SECONDS)

    async def upsert(self, points: Sequence[EnginePoint]) -> None:
        for start in range(0, len(points), _FRAME_POINTS):
            async with self._writing:
                await self._call("upsert", points=points[start : start + _FRAME_POINTS])

    async def set_payload(self, where: Condition, payload: Payload) -> None:
        async with self._writing:
            await self._call("set_payload", where=where, payload=payload)

    async def delete(self, where: Condition) -> int:
        async with self._writing:
            deleted: int = await self._call("delete", where=where)
        return deleted

    async def search(self, search: EngineSearch) -> list[EngineRecord]:
        records: list[EngineRecord] = await self._call("search", **search)
        return records

    async def count(self, where: Condition) -> int:
        count: int = await self._call("count", where=where)
        return count

    async def scroll(self, where: Condition, *, after: UUID | None, limit: int) -> list[EngineRecord]:
        records: list[EngineRecord] = await self._call("scroll", where=where, after=after, limit=limit)
        return records

    async def flush(self) -> None:
        await self._call("flush")

    async def optimize(self) -> None:
        await self._call("optimize")


def _longer(backoff: float) -> float:
    return min(max(2 * backoff, _FIRST_BACKOFF_SECONDS), _LAST_BACKOFF_SECONDS)
