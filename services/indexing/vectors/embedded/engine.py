"""The embedded engine as the service sees it: a child process that owns the shard, watched and restarted.

    EmbeddedEngine ---- ShardConnection (one life of the child) ---- shard_server.py ---- shard.py

- Concurrent calls share one socket (engine_client.py).
- When the child dies, calls in flight fail with VectorStoreUnavailable and the child is started again, at once and then
  with exponential backoff. A call made meanwhile waits for it for a short time.
- One process owns the directory: a second start waits `lock_timeout` for the first to end, then raises
  VectorStoreLocked. Roles that run in separate processes share the engine (serving_engine.py, remote_engine.py) or use
  a Qdrant server.
- The child cannot outlive this process, nor the thread that started it: start from the main thread.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from services.indexing.vectors.embedded.engine_client import EngineClient
from services.indexing.vectors.embedded.shard_client import ShardConnection
from services.indexing.vectors.engine import INDEXES
from services.indexing.vectors.errors import VectorStoreUnavailable
from services.indexing.vectors.points import MAX_WINDOW
from shared import telemetry

_log = telemetry.get_logger(__name__)

_FIRST_BACKOFF_SECONDS: Final = 0.1
_LAST_BACKOFF_SECONDS: Final = 5.0
_SETTLED_SECONDS: Final = 30.0


class EmbeddedEngine(EngineClient[ShardConnection]):
    def __init__(
        self,
        path: Path,
        *,
        dimensions: int,
        lock_timeout: float,
        call_timeout: float,
        indexing_threshold_kb: int = 10_000,
    ) -> None:
        super().__init__(call_timeout=call_timeout, away="the shard's process is restarting")
        self._options: Mapping[str, object] = {
            "path": str(path),
            "dimensions": dimensions,
            "depth": MAX_WINDOW,
            "indexing_threshold_kb": indexing_threshold_kb,
            "indexes": dict(INDEXES),
            "lock_timeout": lock_timeout,
        }
        self._lock_timeout = lock_timeout

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
        connection = await self._end_watch()
        if connection is not None:
            await connection.close()

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


def _longer(backoff: float) -> float:
    return min(max(2 * backoff, _FIRST_BACKOFF_SECONDS), _LAST_BACKOFF_SECONDS)
