import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.indexing.agents.answerers.extractive import ExtractiveAnswerer
from services.indexing.agents.chat.client import ChatModel, opened
from services.indexing.embedders.minilm import MiniLM
from services.indexing.search.fair_share import SearchShares
from tests.services.indexing.agents.chat_double import ChatDouble, model_settings


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
    return ExtractiveAnswerer(embedder, shares)


@pytest.fixture
def tenant() -> uuid.UUID:
    return uuid.uuid4()


@pytest.fixture(scope="session")
async def chat_server() -> AsyncIterator[ChatDouble]:
    async with ChatDouble.serving() as double:
        yield double


@pytest.fixture
def chat(chat_server: ChatDouble) -> ChatDouble:
    """The endpoint, with an empty script."""
    chat_server.reset()
    return chat_server


@pytest.fixture
async def model(chat: ChatDouble, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ChatModel]:
    """A model at the endpoint, tried again without waiting for long."""
    monkeypatch.setattr("services.indexing.agents.chat.client._FIRST_PAUSE", 0.01)
    monkeypatch.setattr("services.indexing.agents.chat.client._MOST_PAUSE", 0.02)
    async with opened("writer", model_settings(chat)) as model:
        yield model


@pytest.fixture
async def impatient(chat: ChatDouble, model: ChatModel) -> AsyncIterator[ChatModel]:
    """A model that may be silent for half a second."""
    async with opened("impatient", model_settings(chat, chunk_seconds=0.5)) as other:
        yield other
