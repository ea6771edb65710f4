"""The store that the settings name."""

from typing import Final

from services.indexing.settings import IndexingSettings
from services.indexing.vectors.embedded import EmbeddedEngine
from services.indexing.vectors.engine import Engine
from services.indexing.vectors.served import ServedEngine
from services.indexing.vectors.shared import SharedEngine
from services.indexing.vectors.store import VectorStore

_DIMENSIONS: Final = 384
_AVERAGE_CHUNK_TOKENS: Final = 100.0
_LOCK_SECONDS: Final = 10.0
_CALL_SECONDS: Final = 30.0


def store_of(settings: IndexingSettings) -> VectorStore:
    """Not started yet."""
    return VectorStore(_engine_of(settings), dimensions=_DIMENSIONS)


def _engine_of(settings: IndexingSettings) -> Engine:
    folder = settings.data_dir / "vectors"
    if settings.vectors_socket is not None:
        return SharedEngine(settings.vectors_socket, dimensions=_DIMENSIONS, call_timeout=_CALL_SECONDS)
    if settings.vectors_listen is not None:
        return ServedEngine(
            folder,
            listen=settings.vectors_listen,
            dimensions=_DIMENSIONS,
            average_chunk_tokens=_AVERAGE_CHUNK_TOKENS,
            lock_timeout=_LOCK_SECONDS,
            call_timeout=_CALL_SECONDS,
        )
    return EmbeddedEngine(
        folder,
        dimensions=_DIMENSIONS,
        average_chunk_tokens=_AVERAGE_CHUNK_TOKENS,
        lock_timeout=_LOCK_SECONDS,
        call_timeout=_CALL_SECONDS,
    )
