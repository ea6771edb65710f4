"""The embedded engine, also served to the other processes of the service for as long as it is started."""

from pathlib import Path

from services.indexing.vectors.embedded.engine import EmbeddedEngine
from services.indexing.vectors.embedded.engine_server import EngineServer


class ServingEngine(EmbeddedEngine):
    """Restarts of the shard's process are invisible to callers: their connections are with this process."""

    def __init__(
        self,
        path: Path,
        *,
        listen: Path,
        dimensions: int,
        lock_timeout: float,
        call_timeout: float,
        indexing_threshold_kb: int = 10_000,
    ) -> None:
        super().__init__(
            path,
            dimensions=dimensions,
            lock_timeout=lock_timeout,
            call_timeout=call_timeout,
            indexing_threshold_kb=indexing_threshold_kb,
        )
        self._server = EngineServer(self, listen, dimensions=dimensions)

    async def start(self) -> None:
        """Raises VectorStoreUnavailable also when the socket cannot be created."""
        await super().start()
        try:
            await self._server.start()
        except BaseException:
            await super().stop()
            raise

    async def stop(self) -> None:
        await self._server.stop()
        await super().stop()
