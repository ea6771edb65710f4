import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.indexing.agents.answerers.extractive import ExtractiveAnswerer
from services.indexing.embedders.minilm import MiniLM
from services.indexing.search.shares import SearchShares
from services.indexing.vectors.keywords import KeywordModel


@pytest.fixture(scope="session")
def embedder() -> Iterator[MiniLM]:
    loaded = MiniLM.load(Path(os.environ["QUARRY_INDEXING_MODEL_DIR"]), threads=2)
    yield loaded
    loaded.close()


@pytest.fixture(scope="session")
def shares() -> Iterator[SearchShares]:
    made = SearchShares()
    yield made
    made.close()


@pytest.fixture(scope="session")
def extractive(embedder: MiniLM, shares: SearchShares) -> ExtractiveAnswerer:
    return ExtractiveAnswerer(embedder, KeywordModel(), shares)


@pytest.fixture
def tenant() -> uuid.UUID:
    return uuid.uuid4()
