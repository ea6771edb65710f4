"""Why something was found."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.indexing.analysis import ANALYZERS
from shared.tenancy import Database
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.projects_double import ProjectsDouble
from tests.services.indexing.search.conftest import Search
from tests.services.indexing.uploads import Library
from tests.support.serving import StartedApp

Running = tuple[StartedApp, httpx.AsyncClient]


@pytest.fixture(scope="module")
async def shelf(running: Running, database: Database, projects: ProjectsDouble) -> AsyncIterator[Library]:
    library = Library(database, projects, uuid.uuid4())
    texts = {
        "wall": "Granite from the eastern face of the quarry built the harbour wall.",
        "bread": "Knead the dough for ten minutes and let it rise until it has doubled.",
        "walls": "Walls of granite keep the sea out, and every wall needs a mason.",
    }
    for name, content in texts.items():
        assert await ends(library, await library.upload(content, name=name)) == "indexed"
    yield library


async def explained(search: Search, library: Library, query: str, **options: Any) -> dict[str, Any]:
    answer = await search(library, query, explain=True, **options)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_the_parts_of_a_score_are_its_whole(search: Search, shelf: Library) -> None:
    items = (await explained(search, shelf, "granite walls"))["items"]
    assert len(items) == 3
    for item in items:
        parts = [part for name in ("semantic", "keyword") if (part := item["explanation"][name])]
        assert sum(part["share"] for part in parts) == pytest.approx(item["score"])
    by_name = {item["document_name"]: item["explanation"] for item in items}
    assert by_name["bread"]["keyword"] is None
    assert sorted(found["semantic"]["rank"] for found in by_name.values()) == [1, 2, 3]
    assert by_name["walls"]["words"] == ["Walls", "granite", "wall"]
    assert by_name["bread"]["words"] == []


@pytest.mark.parametrize(("mode", "other"), [("keyword", "semantic"), ("semantic", "keyword")])
async def test_a_search_of_one_kind_has_parts_of_that_kind(
    search: Search, shelf: Library, mode: str, other: str
) -> None:
    items = (await explained(search, shelf, "granite walls", mode=mode))["items"]
    for rank, item in enumerate(items, start=1):
        part = item["explanation"][mode]
        assert item["explanation"][other] is None
        assert (part["rank"], part["score"], part["share"]) == (rank, item["score"], item["score"])


async def test_a_query_says_how_it_was_read(search: Search, shelf: Library) -> None:
    told = (await explained(search, shelf, 'the walls "eastern face" -bread', facets=["content_type"]))["explanation"]
    assert (told["mode"], told["generation"], told["phrases"], told["excluded"]) == (
        "hybrid", await shelf.generation(), ["eastern face"], ["bread"],
    )  # fmt: skip
    assert told["analyzer"] in ANALYZERS
    assert told["embedder"]
    terms = {(term["text"], term["language"]) for term in told["terms"]}
    assert {("walls", None), ("wall", "en")} <= terms
    assert ("the", None) not in terms
    assert set(told["stages_ms"]) == {"admission", "embedding", "ranking", "passages", "facets"}
    assert all(taken >= 0 for taken in told["stages_ms"].values())


async def test_nothing_is_explained_unless_asked_for(search: Search, shelf: Library) -> None:
    body = (await search(shelf, "granite")).json()
    assert body["explanation"] is None
    assert all(item["explanation"] is None for item in body["items"])


async def test_further_passages_of_a_group_are_explained_too(search: Search, library: Library) -> None:
    filling = " ".join(["Nothing in this sentence is about the thing that is looked for here."] * 8)
    text = "\n\n".join(f"Granite in part {number}. {filling}" for number in range(3))
    await ends(library, await library.upload(text))
    (item,) = (await explained(search, library, "granite", mode="keyword", group_by="document"))["items"]
    assert [other["explanation"]["keyword"]["rank"] for other in item["passages"]] == [2, 3]


@pytest.mark.parametrize("name", ANALYZERS)
def test_terms_that_are_shown_are_those_searched_by(name: str) -> None:
    analyzer = ANALYZERS[name]
    for query in ("the granite walls", "Granitmauern am Hafen", "granite granite", "港口的墙", ""):
        shown, searched = analyzer.terms_of_query(query), analyzer.of_query(query)
        assert sorted(term.weight for term in shown) == sorted(searched.weights), query
