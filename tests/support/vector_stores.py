"""A vector store of each kind: what one guarantees, all do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from services.indexing.vectors.embedded.remote_engine import RemoteEngine
from services.indexing.vectors.embedded.serving_engine import ServingEngine
from services.indexing.vectors.engine import Engine
from services.indexing.vectors.store import EmbeddedStore, VectorStore
from tests.support.qdrant_process import qdrant_engine

KINDS: Final = ("embedded", "shared", "qdrant")
DIMENSIONS: Final = 384


@asynccontextmanager
async def vector_store(kind: str, folder: Path, *, indexing_threshold_kb: int = 10_000) -> AsyncIterator[VectorStore]:
    """Started. `folder` must have a short path: a socket may lie in it."""
    if kind == "qdrant":
        async with qdrant_engine(folder) as server:
            yield VectorStore(server, dimensions=DIMENSIONS)
        return
    owner: Engine | None = None
    store: VectorStore = EmbeddedStore(folder, indexing_threshold_kb=indexing_threshold_kb)
    if kind == "shared":
        owner, store = _shared(folder, indexing_threshold_kb)
        await owner.start()
    try:
        await store.start()
        yield store
        await store.stop()
    finally:
        if owner is not None:
            await owner.stop()


def _shared(folder: Path, indexing_threshold_kb: int) -> tuple[ServingEngine, VectorStore]:
    owner = ServingEngine(
        folder,
        listen=folder / "run" / "vectors.sock",
        dimensions=DIMENSIONS,
        lock_timeout=10.0,
        call_timeout=30.0,
        indexing_threshold_kb=indexing_threshold_kb,
    )
    user = RemoteEngine(folder / "run" / "vectors.sock", dimensions=DIMENSIONS, call_timeout=30.0)
    return owner, VectorStore(user, dimensions=DIMENSIONS)
