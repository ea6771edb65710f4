"""The store that the settings name: an engine for each length of vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from services.indexing.settings import IndexingSettings
from services.indexing.vectors.embedded.engine import EmbeddedEngine
from services.indexing.vectors.embedded.remote_engine import RemoteEngine
from services.indexing.vectors.embedded.serving_engine import ServingEngine
from services.indexing.vectors.engine import Engine
from services.indexing.vectors.store import VectorStore

_UNNAMED: Final = 384
_LOCK_SECONDS: Final = 10.0
_CALL_SECONDS: Final = 30.0


def store_of(settings: IndexingSettings, dimensions: Sequence[int]) -> VectorStore:
    """For vectors of these lengths, the first of which is the default; not started yet."""
    engines = {length: _engine_of(settings, length) for length in dimensions}
    default, *others = engines
    return VectorStore(engines[default], dimensions=default, others={length: engines[length] for length in others})


def _engine_of(settings: IndexingSettings, dimensions: int) -> Engine:
    # Vectors of the bundled embedder's length are where they were before there could be others.
    suffix = "" if dimensions == _UNNAMED else f"-{dimensions}"
    folder = settings.data_dir / f"vectors{suffix}"
    if settings.qdrant_url is not None:
        return _qdrant(settings, settings.qdrant_url, f"{settings.qdrant_collection}{suffix}", dimensions)
    if settings.vectors_socket is not None:
        socket = _socket(settings.vectors_socket, suffix)
        return RemoteEngine(socket, dimensions=dimensions, call_timeout=_CALL_SECONDS)
    if settings.vectors_listen is not None:
        return ServingEngine(
            folder,
            listen=_socket(settings.vectors_listen, suffix),
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


def _socket(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.stem}{suffix}{path.suffix}")


def _qdrant(settings: IndexingSettings, url: str, collection: str, dimensions: int) -> Engine:
    # Its client takes two seconds and 90 MiB to import: only when it is used.
    from services.indexing.vectors.qdrant.engine import QdrantEngine  # noqa: PLC0415

    assert settings.qdrant_api_key is not None  # noqa: S101  # the settings see to it
    return QdrantEngine(
        url,
        grpc_port=settings.qdrant_grpc_port,
        api_key=settings.qdrant_api_key.get_secret_value(),
        collection=collection,
        dimensions=dimensions,
        call_timeout=_CALL_SECONDS,
    )
