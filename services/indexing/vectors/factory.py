"""The store that the settings name."""

from typing import Final

from services.indexing.settings import IndexingSettings
from services.indexing.vectors.embedded.engine import EmbeddedEngine
from services.indexing.vectors.embedded.remote_engine import RemoteEngine
from services.indexing.vectors.embedded.serving_engine import ServingEngine
from services.indexing.vectors.engine import Engine
from services.indexing.vectors.store import VectorStore

_LOCK_SECONDS: Final = 10.0
_CALL_SECONDS: Final = 30.0


def store_of(settings: IndexingSettings, dimensions: int) -> VectorStore:
    """For vectors of this many dimensions; not started yet."""
    return VectorStore(_engine_of(settings, dimensions), dimensions=dimensions)


def _engine_of(settings: IndexingSettings, dimensions: int) -> Engine:
    folder = settings.data_dir / "vectors"
    if settings.qdrant_url is not None:
        return _qdrant(settings, settings.qdrant_url, dimensions)
    if settings.vectors_socket is not None:
        return RemoteEngine(settings.vectors_socket, dimensions=dimensions, call_timeout=_CALL_SECONDS)
    if settings.vectors_listen is not None:
        return ServingEngine(
            folder,
            listen=settings.vectors_listen,
            dimensions=dimensions,
            lock_timeout=_LOCK_SECONDS,
            call_timeout=_CALL_SECONDS,
        )
    return EmbeddedEngine(
        folder,
        dimensions=dimensions,
        lock_timeout=_LOCK_SECONDS,
        call_timeout=_CALL_SECONDS,
    )


def _qdrant(settings: IndexingSettings, url: str, dimensions: int) -> Engine:
    # Its client takes two seconds and 90 MiB to import: only when it is used.
    from services.indexing.vectors.qdrant.engine import QdrantEngine  # noqa: PLC0415

    assert settings.qdrant_api_key is not None  # noqa: S101  # the settings see to it
    return QdrantEngine(
        url,
        grpc_port=settings.qdrant_grpc_port,
        api_key=settings.qdrant_api_key.get_secret_value(),
        collection=settings.qdrant_collection,
        dimensions=dimensions,
        call_timeout=_CALL_SECONDS,
    )
