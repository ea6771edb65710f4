"""Answers within a deadline, which say what they lack."""

import asyncio
from typing import Any

import httpx
import pytest

from services.indexing.embedders.errors import EmbedderUnavailable
from services.indexing.embedders.minilm import MiniLM
from services.indexing.search import facets, progress
from services.indexing.search.live_hits import Ranking
from services.indexing.vectors.store import ProjectVectors
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.search.conftest import Search
from tests.services.indexing.uploads import Library
from tests.shared.test_metrics import value
from tests.support.serving import StartedApp

Running = tuple[StartedApp, httpx.AsyncClient]
GRANITE = "Granite from the eastern face of the quarry built the harbour wall."


@pytest.fixture
async def granite(running: Running, library: Library) -> Library:
    await ends(library, await library.upload(GRANITE, name="granite.txt", metadata={"lang": "en"}))
    return library


async def for_ever(*_: Any, **__: Any) -> None:
    await asyncio.Event().wait()


async def unavailable(*_: Any, **__: Any) -> None:
    raise EmbedderUnavailable("away")


@pytest.mark.parametrize("embed_query", [for_ever, unavailable])
async def test_a_query_that_is_not_embedded_is_answered_by_its_words(
    search: Search, granite: Library, monkeypatch: pytest.MonkeyPatch, embed_query: Any
) -> None:
    whole = (await search(granite, "granite harbour", limit=1)).json()
    assert (whole["partial"], whole["partial_reasons"]) == (False, [])
    monkeypatch.setattr(MiniLM, "embed_query", embed_query)
    monkeypatch.setattr(progress, "_OPTIONAL", 0.01)
    answer = (await search(granite, "granite harbour", timeout_ms=10_000, explain=True)).json()
    assert (answer["partial"], answer["partial_reasons"]) == (True, ["meaning_skipped"])
    assert [item["document_name"] for item in answer["items"]] == ["granite.txt"]
    assert answer["explanation"]["mode"] == "keyword"


async def test_what_answers_lack_and_where_their_time_goes_is_counted(
    search: Search, granite: Library, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def counted() -> tuple[float, float, float]:
        text = (await running[1].get("/metrics")).text
        stages = [value(text, "quarry_search_stage_seconds_count", stage=stage) or 0 for stage in ("ranking", "facets")]
        return value(text, "quarry_search_partial_total", reason="meaning_skipped") or 0, stages[0], stages[1]

    before = await counted()
    await search(granite, "granite")
    monkeypatch.setattr(MiniLM, "embed_query", unavailable)
    await search(granite, "granite", facets=["content_type"])
    assert [now - earlier for earlier, now in zip(before, await counted(), strict=True)] == [1, 2, 1]


async def test_pages_go_on_whatever_each_lacked(
    search: Search, granite: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        await ends(granite, await granite.upload(f"{GRANITE} {number}", name=f"{number}.txt"))
    first = (await search(granite, "granite", limit=2)).json()
    with monkeypatch.context() as patch:
        patch.setattr(MiniLM, "embed_query", unavailable)
        second = (await search(granite, "granite", limit=2, cursor=first["next_cursor"])).json()
    third = (await search(granite, "granite", limit=2, cursor=second["next_cursor"])).json()
    found = [item["document_name"] for page in (first, second, third) for item in page["items"]]
    assert (len(found), len(set(found)), third["next_cursor"]) == (5, 5, None)
    assert [page["partial"] for page in (first, second, third)] == [False, True, False]


async def test_a_search_by_meaning_alone_cannot_do_without(
    search: Search, granite: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(MiniLM, "embed_query", unavailable)
        answer = await search(granite, "granite", mode="semantic")
        assert (answer.status_code, answer.json()["code"]) == (503, "embedder_unavailable")
    monkeypatch.setattr(MiniLM, "embed_query", for_ever)
    answer = await search(granite, "granite", mode="semantic", timeout_ms=100)
    assert (answer.status_code, answer.json()["code"]) == (503, "search_too_slow")


async def test_facets_that_take_too_long_are_left_out(
    search: Search, granite: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ranking, "documents", for_ever)
    monkeypatch.setattr(progress, "_BEFORE_FACETS_END", 0.99)
    answer = (await search(granite, "granite", facets=["metadata.lang"], timeout_ms=10_000)).json()
    assert [item["document_name"] for item in answer["items"]] == ["granite.txt"]
    assert (answer["partial"], answer["partial_reasons"]) == (True, ["facets_skipped"])
    assert (answer["facets"], answer["facets_partial"], answer["facets_omitted"]) == (
        {"metadata.lang": []}, True, ["all"],
    )  # fmt: skip


async def test_what_a_search_cannot_be_answered_without_ends_it_in_time(
    search: Search, granite: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProjectVectors, "search", for_ever)
    answer = await search(granite, "granite", mode="keyword", timeout_ms=100)
    assert (answer.status_code, answer.json()["code"]) == (503, "search_too_slow")


@pytest.mark.parametrize("timeout_ms", [0, 99, 10_001, "1s"])
async def test_a_deadline_is_bounded(search: Search, library: Library, timeout_ms: Any) -> None:
    assert (await search(library, "x", timeout_ms=timeout_ms)).status_code == 422


async def test_facets_over_a_ranking_that_was_cut_say_so(
    search: Search, granite: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = (await search(granite, "granite", facets=["content_type"])).json()
    assert (exact["facets_partial"], exact["facets_omitted"]) == (False, [])
    monkeypatch.setattr("services.indexing.search.live_hits.MAX_WINDOW", 1)
    cut = (await search(granite, "granite", facets=["content_type"])).json()
    assert (cut["facets_partial"], cut["facets_omitted"]) == (True, ["passages"])
    monkeypatch.setattr(facets, "MAX_VALUES", 0)
    cut = (await search(granite, "granite", facets=["content_type"])).json()
    assert cut["facets_omitted"] == ["passages", "values"]
