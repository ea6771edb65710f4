"""The Qdrant that tests use: the shell of `qdrant_server.py` as a process that can be killed, or a real one by its URL.

`QUARRY_TEST_QDRANT_URL`, `QUARRY_TEST_QDRANT_GRPC_PORT` (6334) and `QUARRY_TEST_QDRANT_API_KEY` name the real one.
"""

import asyncio
import os
import shutil
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from qdrant_client import AsyncQdrantClient

from services.indexing.vectors.qdrant.engine import QdrantEngine

ROOT = Path(__file__).parents[2]
KEY = "a-key-for-tests"
_STARTED_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Address:
    url: str
    grpc_port: int
    api_key: str

    def engine(self, collection: str, **changed: object) -> QdrantEngine:
        options: dict[str, object] = {
            "grpc_port": self.grpc_port,
            "api_key": self.api_key,
            "collection": collection,
            "dimensions": 384,
            "call_timeout": 30.0,
        }
        return QdrantEngine(self.url, **(options | changed))  # type: ignore[arg-type]  # as its signature has them


class QdrantProcess:
    """Keeps its port and its folder from one start to the next."""

    def __init__(self, home: Path, *, version: str = "1.20.0") -> None:
        self.home = home
        self.version = version
        self.address = Address("http://127.0.0.1", _free_port(), KEY)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        command = ["-m", "tests.support.qdrant_server", "--home", str(self.home), "--key", KEY]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            *("--port", str(self.address.grpc_port), "--version", self.version),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        listening = await asyncio.wait_for(self._process.stdout.readline(), _STARTED_SECONDS)
        assert int(listening) == self.address.grpc_port

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.wait()

    def empty(self) -> None:
        """What a lost volume leaves."""
        shutil.rmtree(self.home)

    @classmethod
    @asynccontextmanager
    async def running(cls, home: Path, *, version: str = "1.20.0") -> AsyncIterator["QdrantProcess"]:
        server = cls(home, version=version)
        await server.start()
        try:
            yield server
        finally:
            await server.kill()


@asynccontextmanager
async def qdrant_engine(home: Path, environment: Mapping[str, str] = os.environ) -> AsyncIterator[QdrantEngine]:
    """An engine over a collection of its own, started."""
    collection = f"test-{uuid.uuid4()}"
    if url := environment.get("QUARRY_TEST_QDRANT_URL"):
        port = int(environment.get("QUARRY_TEST_QDRANT_GRPC_PORT", "6334"))
        address = Address(url, port, environment.get("QUARRY_TEST_QDRANT_API_KEY", KEY))
        async with _started(address.engine(collection)) as engine:
            yield engine
            client: AsyncQdrantClient | None = engine._client
            assert client is not None
            await client.delete_collection(collection)
    else:
        async with QdrantProcess.running(home) as server, _started(server.address.engine(collection)) as engine:
            yield engine


@asynccontextmanager
async def _started(engine: QdrantEngine) -> AsyncIterator[QdrantEngine]:
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
