from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from services.indexing.vectors.embedded import EmbeddedEngine
from services.indexing.vectors.store import EmbeddedStore, ProjectVectors, VectorStore
from tests.services.indexing.vectors.samples import DIMENSIONS


@pytest.fixture(scope="session", params=["embedded"])
async def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VectorStore]:
    """One store for the whole session: tests keep apart by making tenants of their own, as users do."""
    engines = {"embedded": EmbeddedStore}
    # So low that small tests also meet optimised segments.
    store = engines[request.param](tmp_path_factory.mktemp("vectors"), indexing_threshold_kb=1)
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
def project(store: VectorStore) -> ProjectVectors:
    return store.project(uuid4(), uuid4())


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[EmbeddedEngine]:
    """An embedded engine of its own, for tests that break it."""
    engine = EmbeddedEngine(
        tmp_path, dimensions=DIMENSIONS, average_chunk_tokens=20.0, lock_timeout=5.0, call_timeout=10.0
    )
    await engine.start()
    yield engine
    await engine.stop()
