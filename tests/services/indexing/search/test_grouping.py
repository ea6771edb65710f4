"""Items that are documents, each with its best passages."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.indexing.search import grouping
from shared.tenancy import Database
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.projects_double import ProjectsDouble
from tests.services.indexing.search.conftest import Search
from tests.services.indexing.uploads import Library
from tests.support.serving import StartedApp

Running = tuple[StartedApp, httpx.AsyncClient]
# Long enough that each is a passage of its own.
FILLING = " ".join(["Nothing in this sentence is about the thing that is looked for here."] * 8)


@pytest.fixture(scope="module")
async def books(running: Running, database: Database, projects: ProjectsDouble) -> AsyncIterator[Library]:
    """Seven of several passages about granite, and one about nothing of the kind."""
    library = Library(database, projects, uuid.uuid4())
    passages = "\n\n".join(f"Granite in part {number}. {FILLING}" for number in range(6))
    documents = [await library.upload(passages, name=f"{number}.txt") for number in range(7)]
    documents.append(await library.upload(f"Basalt. {FILLING}", name="basalt.txt"))
    for document_id in documents:
        assert await ends(library, document_id) == "indexed"
    yield library


async def grouped(search: Search, library: Library, query: str = "granite", **options: Any) -> dict[str, Any]:
    answer = await search(library, query, **{"mode": "keyword", "group_by": "document", **options})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_document_is_an_item_with_its_best_passages(search: Search, books: Library) -> None:
    flat = (await search(books, "granite", mode="keyword", limit=50)).json()["items"]
    best: dict[str, list[int]] = {}
    for item in flat:
        best.setdefault(item["document_name"], []).append(item["chunk_index"])
    assert all(len(chunks) > 2 for chunks in best.values())

    for size in (1, 2, 10):
        items = (await grouped(search, books, limit=50, group_size=size))["items"]
        assert [item["document_name"] for item in items] == list(best)
        for item in items:
            found = [item["chunk_index"], *(other["chunk_index"] for other in item["passages"])]
            assert found == best[item["document_name"]][:size]
            for other in item["passages"]:
                assert [other["text"][mark["start"] : mark["end"]] for mark in other["highlights"]] == ["Granite"]
                assert other["score"] <= item["score"]
    assert all(item["passages"] == [] for item in flat)


@pytest.mark.parametrize("mode", ["keyword", "semantic", "hybrid"])
async def test_pages_of_documents_join_without_gap_or_repeat(search: Search, books: Library, mode: str) -> None:
    whole = [item["document_name"] for item in (await grouped(search, books, mode=mode, limit=50))["items"]]
    assert len(whole) == len(set(whole)) == (7 if mode == "keyword" else 8)
    found, cursor = list[str](), None
    while cursor or not found:
        page = await grouped(search, books, mode=mode, limit=3, cursor=cursor)
        found += [item["document_name"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert found == whole


async def test_documents_uploaded_and_deleted_between_pages_skip_and_repeat_nothing(
    search: Search, library: Library
) -> None:
    documents = {name: await library.upload(f"Granite {name}. {FILLING}", name=name) for name in "abcdefgh"}
    for document_id in documents.values():
        await ends(library, document_id)
    page = await grouped(search, library, limit=3)
    shown = [item["document_name"] for item in page["items"]]
    left = sorted(documents.keys() - set(shown))
    await library.delete(documents[shown[0]])
    await library.delete(documents[left[0]])
    await ends(library, await library.upload("Granite granite granite.", name="new"))
    cursor = page["next_cursor"]
    while cursor:
        page = await grouped(search, library, limit=2, cursor=cursor)
        shown += [item["document_name"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert sorted(shown) == sorted([*shown[:3], *left[1:], "new"])


async def test_each_kind_of_paging_has_its_own_cursors(search: Search, books: Library) -> None:
    cursor = (await grouped(search, books, limit=1))["next_cursor"]
    answer = await search(books, "granite", mode="keyword", limit=1, cursor=cursor)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


async def test_passages_fulfil_the_conditions_of_the_query(search: Search, books: Library) -> None:
    items = (await grouped(search, books, '"part 3" granite', group_size=10, limit=50))["items"]
    assert len(items) == 7
    assert all("part 3." in item["text"] and item["passages"] == [] for item in items)


async def test_a_page_is_bounded_by_what_all_its_passages_take(
    search: Search, books: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "MAX_PAGE_BYTES", 3_000)
    page = await grouped(search, books, limit=50, group_size=5)
    assert (len(page["items"]), page["next_cursor"] is None) == (1, False)


@pytest.mark.parametrize("options", [{"group_by": "project"}, {"group_size": 0}, {"group_size": 11}])
async def test_other_groups_are_refused(search: Search, library: Library, options: dict[str, Any]) -> None:
    assert (await search(library, "x", **options)).status_code == 422
