from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest

from services.indexing.vectors.embedded.engine import EmbeddedEngine
from services.indexing.vectors.store import ProjectVectors, VectorStore
from tests.services.indexing.vectors.samples import DIMENSIONS
from tests.support.vector_stores import KINDS, vector_store


@pytest.fixture(scope="session", params=KINDS)
async def store(request: pytest.FixtureRequest, folders: Callable[[str], Path]) -> AsyncIterator[VectorStore]:
    """One store of each kind for the whole session: tests keep apart by making tenants of their own, as users do."""
    # The threshold is so low that small tests also meet optimised segments.
    async with vector_store(request.param, folders("vectors"), indexing_threshold_kb=1) as store:
        yield store


@pytest.fixture
def project(store: VectorStore) -> ProjectVectors:
    return store.project(uuid4(), uuid4())


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[EmbeddedEngine]:
    """An embedded engine of its own, for tests that break it."""
    engine = EmbeddedEngine(tmp_path, dimensions=DIMENSIONS, lock_timeout=5.0, call_timeout=10.0)
    await engine.start()
    yield engine
    await engine.stop()
