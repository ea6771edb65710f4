"""Passages that are found by meaning alone: the sentence that is most like the query is marked."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest

from services.indexing.analysis.analyzer import Span
from services.indexing.embedders import Vectors
from services.indexing.embedders.errors import EmbedderUnavailable
from services.indexing.embedders.minilm import MiniLM
from services.indexing.search import best_sentences
from services.indexing.search.fair_share import SearchShares
from services.indexing.search.highlights import Highlighter
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.search.conftest import Search
from tests.services.indexing.uploads import Library
from tests.support.serving import StartedApp

Running = tuple[StartedApp, httpx.AsyncClient]
TENANT = uuid.UUID(int=7)
BREAD = "The kitchen opens at six. Knead the dough and let it rise. Guests arrive at noon — or later."


class Embedder:
    """A sentence is the more like the query the more of its letters are `e`."""

    name, dimensions = "letters", 2

    def __init__(self, error: Exception | None = None) -> None:
        self.embedded: list[str] = []
        self._error = error

    async def embed(self, texts: Sequence[str], *, caller: object, background: bool = False) -> Vectors:
        assert (caller, background) == (TENANT, False)
        self.embedded += texts
        if self._error is not None:
            raise self._error
        return np.array([[text.count("e") / len(text), 0] for text in texts], np.float32)

    async def embed_query(self, text: str, *, caller: object) -> Vectors:
        raise NotImplementedError

    def close(self) -> None: ...


@pytest.fixture
async def shares() -> AsyncIterator[SearchShares]:
    shares = SearchShares()
    yield shares
    shares.close()


async def best(
    shares: SearchShares, embedder: Embedder, texts: Sequence[str], query: str = "zeppelin"
) -> dict[int, str]:
    keyed = {uuid.UUID(int=number): text for number, text in enumerate(texts)}
    found = await best_sentences.of_page(
        shares, embedder, np.array([1, 0], np.float32), keyed, Highlighter(query), tenant_id=TENANT
    )
    return {key.int: keyed[key][start:end] for key, (start, end) in found.items()}


async def test_only_passages_without_the_querys_words_are_looked_into(shares: SearchShares) -> None:
    embedder = Embedder()
    texts = ["A zeppelin. Here e e e.", "Away it went. See e e e.", "One sentence alone"]
    assert await best(shares, embedder, texts) == {1: "See e e e.", 2: "One sentence alone"}
    assert embedder.embedded == ["Away it went.", "See e e e."]


async def test_work_is_bounded_and_the_best_passages_come_first(shares: SearchShares) -> None:
    embedder = Embedder()
    assert len(await best(shares, embedder, ["Now it is so. " * 1_000] * 50)) == 8
    assert len(embedder.embedded) == best_sentences.MOST_SENTENCES
    assert await best(shares, Embedder(), ["a" * 100_000]) == {0: "a" * 480}


@pytest.mark.parametrize("error", [TimeoutError(), EmbedderUnavailable("away")])
async def test_a_search_does_not_fail_for_a_mark(shares: SearchShares, error: Exception) -> None:
    texts = ["First one. Second one.", "One sentence alone"]
    assert await best(shares, Embedder(error), texts) == {1: "One sentence alone"}


async def test_an_embedder_that_is_slow_is_not_waited_for(
    shares: SearchShares, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Embedder):
        async def embed(self, texts: Sequence[str], *, caller: object, background: bool = False) -> Vectors:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(best_sentences, "_SECONDS", 0.01)
    assert await best(shares, Slow(), ["First one. Second one."]) == {}


async def test_a_hit_by_meaning_is_marked_on_request(search: Search, library: Library) -> None:
    await ends(library, await library.upload(BREAD))
    query = "how to bake a loaf"

    async def marks(**options: Any) -> list[dict[str, Any]]:
        answer = await search(library, query, **options)
        assert answer.status_code == 200, answer.text
        (item,) = answer.json()["items"]
        assert item["text"] == BREAD
        found: list[dict[str, Any]] = item["highlights"]
        return found

    assert await marks(mode="semantic") == []
    sentence: Span = BREAD.index("Knead"), BREAD.index(" Guests")
    for mode in ("semantic", "hybrid"):
        wanted = [{"start": sentence[0], "end": sentence[1], "kind": "semantic"}]
        assert await marks(mode=mode, highlight="semantic") == wanted
    query = "when does the dough rise"
    words = [{"start": BREAD.index(word), "end": BREAD.index(word) + 4 + (word == "dough"), "kind": "keyword"}
             for word in ("dough", "rise")]  # fmt: skip
    assert await marks(mode="semantic", highlight="semantic") == words
    assert await marks(mode="keyword", highlight="semantic") == words


async def test_nothing_more_is_embedded_unless_it_is_asked_for(
    search: Search, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ends(library, await library.upload(BREAD))
    monkeypatch.delattr(MiniLM, "embed")
    assert (await search(library, "how to bake a loaf", mode="semantic")).status_code == 200


async def test_what_is_deleted_while_sentences_are_compared_is_not_shown(
    search: Search, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = [await library.upload(BREAD) for _ in range(2)]
    for document_id in (kept, gone):
        await ends(library, document_id)
    embed = MiniLM.embed

    async def deleting(model: MiniLM, texts: Sequence[str], **more: Any) -> Vectors:
        await library.delete(gone)
        return await embed(model, texts, **more)

    monkeypatch.setattr(MiniLM, "embed", deleting)
    answer = await search(library, "how to bake a loaf", mode="semantic", highlight="semantic")
    assert [item["document_id"] for item in answer.json()["items"]] == [str(kept)]
