"""The search endpoint: what is found, what is not, and who may ask."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from services.indexing.documents.models import Chunk
from services.indexing.embedders.minilm import MiniLM
from services.indexing.pipeline.documents import XLSX
from services.indexing.search.dependencies import SearchResources
from services.indexing.vectors.errors import VectorStoreUnavailable
from services.indexing.vectors.points import ChunkPoint
from services.indexing.vectors.store import ProjectVectors
from shared.auth import Scope
from shared.tenancy import Database
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.pipeline.office_samples import CORE, inline_row, workbook
from tests.services.indexing.pipeline.samples import pdf
from tests.services.indexing.projects_double import ProjectsDouble
from tests.services.indexing.uploads import Library
from tests.support.identity import IdentityDouble
from tests.support.polling import eventually
from tests.support.serving import StartedApp

Search = Callable[..., Awaitable[httpx.Response]]
Running = tuple[StartedApp, httpx.AsyncClient]

GRANITE = "Granite from the eastern face of the quarry built the harbour wall."
BREAD = "Knead the dough for ten minutes and let it rise until it has doubled."
COMETS = "Comets are icy bodies that release gas as they pass close to the Sun."


@pytest.fixture(scope="module")
async def shelf(
    running: Running, database: Database, projects: ProjectsDouble
) -> AsyncIterator[tuple[Library, dict[str, uuid.UUID]]]:
    """Three documents on different subjects, indexed once for all tests that only read."""
    library = Library(database, projects, uuid.uuid4())
    documents = {
        "granite": await library.upload(GRANITE, name="granite.md", metadata={"lang": "en", "year": 1887}),
        "bread": await library.upload(BREAD, name="bread.txt", metadata={"lang": "en", "year": 2001}),
        "comets": await library.upload(COMETS, name="comets.txt", metadata={"lang": "fr", "tags": ["sky", "ice"]}),
    }
    for document_id in documents.values():
        assert await ends(library, document_id) == "indexed"
    yield library, documents


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["document_name"] for item in answer.json()["items"]]


async def test_a_hit_says_where_it_is_and_is_found_by_what_it_is_under(search: Search, library: Library) -> None:
    sheet = inline_row(1, "Vessel", "Draught") + inline_row(2, "Endeavour", "4.2")
    content = workbook({"Survey": sheet}, parts={"docProps/core.xml": CORE.format("Coastal fleet")})
    document_id = await library.upload(content, name="Registry_of_ships 2024.xlsx", content_type=XLSX)
    other = await library.upload(GRANITE, name="184.txt")
    assert [await ends(library, one) for one in (document_id, other)] == ["indexed", "indexed"]
    for query in ("Endeavour", "coastal fleet", "survey", "registry ships"):
        answer = await search(library, query, mode="keyword")
        assert names(answer) == ["Registry_of_ships 2024.xlsx"], query
        (item,) = answer.json()["items"]
        assert item["location"] == {"sheet": "Survey", "rows": [1, 2]}
        assert (item["document_title"], item["page"]) == ("Coastal fleet", None)
        # What is not shown is not marked, and moves no offset.
        assert item["text"] == "Vessel\tDraught\nEndeavour\t4.2"
        marked = [item["text"][mark["start"] : mark["end"]] for mark in item["highlights"]]
        assert marked == (["Endeavour"] if query == "Endeavour" else [])
    # A name of digits finds nothing by itself.
    assert names(await search(library, "184", mode="keyword")) == []


async def test_a_passage_of_before_says_its_page(search: Search, library: Library, database: Database) -> None:
    document_id = await library.upload(pdf("Granite.", "Basalt."), name="stones.pdf", content_type="application/pdf")
    assert await ends(library, document_id) == "indexed"
    async with database.tenant(library.tenant_id) as session:
        await session.execute(update(Chunk).values(location=None, context=None))
    (item,) = (await search(library, "basalt", mode="keyword")).json()["items"]
    assert (item["page"], item["location"]) == (1, {"page": 1})


# --- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["keyword", "semantic", "hybrid"])
async def test_a_phrase_must_be_there_and_what_is_excluded_must_not(search: Search, shelf: Any, mode: str) -> None:
    library, _ = shelf
    assert names(await search(library, '"harbour wall" built', mode=mode)) == ["granite.md"]
    assert names(await search(library, '"wall harbour" built', mode=mode)) == []
    assert "bread.txt" not in names(await search(library, "minutes wall -dough", mode=mode))


async def test_facets_count_what_fulfils_the_conditions(search: Search, shelf: Any) -> None:
    library, _ = shelf
    answer = await search(library, '"the harbour" from', mode="semantic", facets=["metadata.lang"])
    assert answer.json()["facets"] == {"metadata.lang": [{"value": "en", "count": 1}]}


async def test_words_of_a_phrase_are_marked_and_excluded_ones_are_not(search: Search, shelf: Any) -> None:
    library, _ = shelf
    (item,) = (await search(library, '"harbour wall" -bread', mode="keyword")).json()["items"]
    assert [item["text"][mark["start"] : mark["end"]] for mark in item["highlights"]] == ["harbour", "wall"]


async def test_a_paraphrase_is_found_by_meaning(search: Search, shelf: Any) -> None:
    library, documents = shelf
    answer = await search(library, "how to bake a loaf", mode="semantic")
    assert names(answer)[0] == "bread.txt"
    item = answer.json()["items"][0]
    assert item["document_id"] == str(documents["bread"])
    assert (item["version"], item["chunk_index"], item["page"]) == (1, 0, None)
    assert (item["text"], item["metadata"]) == (BREAD, {"lang": "en", "year": 2001})
    assert answer.json()["took_ms"] > 0
    assert answer.json()["facets"] == {}


async def test_an_exact_word_finds_what_holds_it_and_nothing_else(search: Search, shelf: Any) -> None:
    library, _ = shelf
    answer = await search(library, "granite", mode="keyword")
    assert names(answer) == ["granite.md"]
    (mark,) = answer.json()["items"][0]["highlights"]
    assert GRANITE[mark["start"] : mark["end"]] == "Granite"
    assert names(await search(library, "zeppelin", mode="keyword")) == []


async def test_hybrid_is_the_default_and_ranks_what_both_agree_on_first(search: Search, shelf: Any) -> None:
    library, _ = shelf
    assert names(await search(library, "icy comets near the sun"))[0] == "comets.txt"


async def test_pages_follow_one_another_without_gap_or_repeat(search: Search, shelf: Any) -> None:
    library, _ = shelf
    everything = names(await search(library, "stone", mode="semantic"))
    assert len(everything) == 3
    found, cursor = [], None
    for _ in range(3):
        answer = await search(library, "stone", mode="semantic", limit=1, cursor=cursor)
        found += names(answer)
        cursor = answer.json()["next_cursor"]
    assert (found, cursor) == (everything, None)


async def test_a_cursor_of_another_query_is_refused(search: Search, shelf: Any) -> None:
    library, _ = shelf
    cursor = (await search(library, "stone", mode="semantic", limit=1)).json()["next_cursor"]
    answer = await search(library, "bread", mode="semantic", limit=1, cursor=cursor)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


@pytest.mark.parametrize("mode", ["semantic", "keyword", "hybrid"])
async def test_a_deletion_between_two_pages_skips_nothing(
    running: Running, search: Search, library: Library, mode: str
) -> None:
    """What was on the first page goes away: its documents, and with them ranks and term statistics."""
    documents = {}
    for number in range(9):
        name = f"{number}.txt"
        text = f"granite {'granite ' * number}of quarry number {number}, with {number * 7} words of stone"
        documents[name] = await library.upload(text, name=name)
    for document_id in documents.values():
        assert await ends(library, document_id) == "indexed"
    everything = names(await search(library, "granite stone", mode=mode))
    assert len(everything) == 9
    first = await search(library, "granite stone", mode=mode, limit=3)
    assert names(first) == everything[:3]
    for name in (everything[0], everything[2], everything[5]):
        await library.delete(documents[name])
    vectors = running[0].resources(SearchResources).search.store.project(library.tenant_id, library.project_id)
    await eventually(lambda: _holds(vectors, 6))
    rest, cursor = list[str](), first.json()["next_cursor"]
    while cursor and len(rest) < len(everything):
        answer = await search(library, "granite stone", mode=mode, limit=2, cursor=cursor)
        rest += names(answer)
        cursor = answer.json()["next_cursor"]
    assert sorted(rest) == sorted(set(everything[3:]) - {everything[5]})


async def test_a_page_of_large_items_is_shorter_and_the_next_one_goes_on(search: Search, library: Library) -> None:
    for number in range(40):
        await library.upload(GRANITE, name=f"{number}.txt", metadata={"note": "x" * 16_000})
    found, cursor, pages = list[str](), None, 0
    await eventually(lambda: _all_found(search, library, 40), within=60)
    while cursor or not pages:
        answer = await search(library, "granite", mode="keyword", limit=50, cursor=cursor)
        assert len(answer.content) < 600_000
        found += names(answer)
        cursor, pages = answer.json()["next_cursor"], pages + 1
    assert (len(found), len(set(found)), pages) == (40, 40, 2)


async def _holds(vectors: ProjectVectors, count: int) -> bool:
    return await vectors.count() == count


async def _all_found(search: Search, library: Library, count: int) -> bool:
    answer = await search(library, "granite", mode="keyword", limit=1, facets=["content_type"])
    return bool(answer.json()["facets"]["content_type"] == [{"value": "text/plain", "count": count}])


async def test_filters_narrow(search: Search, shelf: Any) -> None:
    library, documents = shelf

    async def matching(filter: dict[str, Any]) -> set[str]:
        return set(names(await search(library, "anything at all", mode="semantic", filter=filter)))

    assert await matching({"field": "metadata.lang", "eq": "en"}) == {"granite.md", "bread.txt"}
    assert await matching({"field": "metadata.year", "lt": 1900}) == {"granite.md"}
    assert await matching({"not": {"field": "metadata.tags", "eq": "sky"}}) == {"granite.md", "bread.txt"}
    assert await matching({"field": "document_id", "in": [str(documents["comets"])]}) == {"comets.txt"}
    either = {"any": [{"field": "metadata.year", "eq": 2001}, {"field": "metadata.lang", "eq": "fr"}]}
    assert await matching(either) == {"bread.txt", "comets.txt"}
    assert await matching({"field": "name", "prefix": "gran"}) == {"granite.md"}
    assert await matching({"field": "language", "eq": "en"}) == {"granite.md", "bread.txt", "comets.txt"}
    assert await matching({"field": "language", "eq": "de"}) == set()


async def test_facets_count_documents(search: Search, shelf: Any) -> None:
    library, _ = shelf
    answer = await search(library, "anything", mode="semantic", limit=1, facets=["metadata.lang", "metadata.tags"])
    assert answer.json()["facets"] == {
        "metadata.lang": [{"value": "en", "count": 2}, {"value": "fr", "count": 1}],
        "metadata.tags": [{"value": "ice", "count": 1}, {"value": "sky", "count": 1}],
    }


# --- what changes ----------------------------------------------------------------------------------------------------


async def test_a_deleted_document_is_invisible_at_once_and_its_points_are_gone_soon(
    running: Running, search: Search, library: Library
) -> None:
    document_id = await library.upload(GRANITE)
    await ends(library, document_id)
    assert len(names(await search(library, "granite"))) == 1
    await library.delete(document_id)
    assert names(await search(library, "granite")) == []
    project = running[0].resources(SearchResources).search.store.project(library.tenant_id, library.project_id)

    async def gone() -> bool:
        return bool(await project.count() == 0)

    await eventually(gone)


async def test_a_new_version_replaces_the_old_one(running: Running, search: Search, library: Library) -> None:
    document_id = await library.upload(GRANITE)
    await ends(library, document_id)
    await library.upload(BREAD, document_id=document_id, version=2, sequence=2, name="bread.txt")
    await ends(library, document_id, version=2)
    assert names(await search(library, "granite", mode="keyword")) == []
    (item,) = (await search(library, "dough", mode="keyword")).json()["items"]
    assert (item["version"], item["document_name"]) == (2, "bread.txt")
    project = running[0].resources(SearchResources).search.store.project(library.tenant_id, library.project_id)

    async def only_the_new() -> bool:
        return [tally.version for tally in await project.tally()] == [2]

    await eventually(only_the_new)


async def test_a_version_that_fails_leaves_the_old_one_in_place(search: Search, library: Library) -> None:
    document_id = await library.upload(GRANITE)
    await ends(library, document_id)
    await library.upload(
        b"%PDF-1.7 nothing", document_id=document_id, version=2, sequence=2, content_type="application/pdf"
    )
    assert await ends(library, document_id, version=2) == "failed"
    (item,) = (await search(library, "granite", mode="keyword")).json()["items"]
    assert item["version"] == 1


async def test_changed_metadata_is_shown_at_once_and_filtered_by_soon(search: Search, library: Library) -> None:
    document_id = await library.upload(GRANITE, metadata={"lang": "en"})
    await ends(library, document_id)
    await library.update(document_id, sequence=2, name="Pierre", metadata={"lang": "fr"})
    (item,) = (await search(library, "granite")).json()["items"]
    assert (item["document_name"], item["metadata"]) == ("Pierre", {"lang": "fr"})

    async def filtered() -> bool:
        return bool(names(await search(library, "granite", filter={"field": "metadata.lang", "eq": "fr"})))

    await eventually(filtered)
    assert names(await search(library, "granite", filter={"field": "metadata.lang", "eq": "en"})) == []
    both = {"all": [{"field": "name", "eq": "Pierre"}, {"field": "language", "eq": "en"}]}
    assert names(await search(library, "granite", filter=both)) == ["Pierre"]


async def test_points_of_versions_that_are_not_live_take_no_place(
    running: Running, search: Search, library: Library
) -> None:
    """More of them than a page holds, all ranked before what is live."""
    document_id = await library.upload(GRANITE)
    await ends(library, document_id)
    engine = running[0].resources(SearchResources).search
    project: ProjectVectors = engine.store.project(library.tenant_id, library.project_id)
    document = await library.document(document_id)
    query, generation = "stone for a port", await library.generation()
    vector = await engine.embedders.target.embed_query(query, caller=None)
    await project.upsert(
        [
            ChunkPoint(
                document_id=document_id, version=2, chunk_index=index, vector=vector, text=query, generation=generation,
                content_type="text/plain", created_at=document.created_at,
            )
            for index in range(250)
        ]
    )  # fmt: skip
    answer = await search(library, query, limit=5)
    assert [item["version"] for item in answer.json()["items"]] == [1]
    assert answer.json()["next_cursor"] is None


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"query": ""},
        {"query": "   "},
        {"query": "a\x00b"},
        {"query": "x" * 2001},
        {"query": "x", "limit": 0},
        {"query": "x", "limit": 51},
        {"query": "x", "mode": "magic"},
        {"query": "x", "tenant_id": str(uuid.uuid4())},
        {"query": "x", "filter": {"field": "tenant_id", "eq": "x"}},
        {"query": "x", "filter": {}},
        {"query": "x", "facets": ["document_id"]},
        {"query": "x", "facets": ["metadata.a"] * 11},
        {},
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, tokens: IdentityDouble, library: Library, body: dict[str, Any]
) -> None:
    answer = await client.post(
        f"/v1/projects/{library.project_id}/search",
        json=body,
        headers=tokens.headers("indexing", tenant_id=library.tenant_id),
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


async def test_requests_are_parsed_in_their_tenants_turn(
    running: Running, search: Search, library: Library, other_library: Library
) -> None:
    shares = running[0].resources(SearchResources).search.shares
    async with shares.turn(library.tenant_id):
        refused = asyncio.ensure_future(search(library, ""))

        async def arrived() -> bool:
            return refused.done() or library.tenant_id in shares._searches._queues

        await eventually(arrived)
        assert (await search(other_library, "")).status_code == 422
        assert not refused.done()
    assert (await refused).status_code == 422


async def test_what_is_wrong_with_a_request_is_told_before_who_may_ask(search: Search, library: Library) -> None:
    nobody = {"tenant_id": None, "tenant_role": None}
    stranger = {"user_id": uuid.uuid4(), "tenant_role": "member"}
    for caller in (nobody, stranger, {"scopes": [Scope.DOCUMENTS_READ]}, {"project_id": uuid.uuid4()}):
        answer = await search(library, "", caller=caller)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "body.query"), caller


async def test_a_filter_that_asks_too_much_of_a_large_project_is_refused(
    search: Search, shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, _ = shelf
    monkeypatch.setattr("services.indexing.vectors.store.MOST", 1)
    answer = await search(library, "anything", filter={"field": "metadata.year", "gt": 1})
    assert (answer.status_code, answer.json()["code"]) == (422, "filter_too_expensive")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_rerank_says_that_it_is_not_there(search: Search, library: Library) -> None:
    answer = await search(library, "x", rerank=True)
    assert (answer.status_code, answer.json()["code"]) == (422, "rerank_unsupported")


async def test_a_store_that_is_away_is_503_and_never_an_empty_answer(
    search: Search, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(self: ProjectVectors, query: object) -> None:
        raise VectorStoreUnavailable("down")

    monkeypatch.setattr(ProjectVectors, "search", unavailable)
    answer = await search(library, "x")
    assert (answer.status_code, answer.json()["code"]) == (503, "vector_store_unavailable")
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_store_that_is_slow_is_503(search: Search, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(self: ProjectVectors, query: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(ProjectVectors, "search", slow)
    assert (await search(library, "x")).json()["code"] == "vector_store_unavailable"


async def test_a_project_nobody_can_vouch_for_is_503(search: Search, library: Library) -> None:
    library.projects.down = True
    try:
        answer = await search(library, "x")
    finally:
        library.projects.down = False
    assert answer.status_code == 503


# --- who may ask -----------------------------------------------------------------------------------------------------


async def test_anonymous_is_401(client: httpx.AsyncClient, library: Library) -> None:
    answer = await client.post(f"/v1/projects/{library.project_id}/search", json={"query": "x"})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


async def test_another_tenant_gets_404(search: Search, shelf: Any) -> None:
    library, _ = shelf
    other = Library(library.database, ProjectsDouble(url=library.projects.url), uuid.uuid4(), library.project_id)
    # The double answers by project id alone; the real one would not know it in this tenant.
    del library.projects.access[library.project_id]
    try:
        answer = await search(other, "granite")
    finally:
        library.projects.access[library.project_id] = {}
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_even_with_access_another_tenant_finds_nothing_of_it(search: Search, shelf: Any) -> None:
    """The same project id in another tenant: points, chunks and documents are all filed under the tenant."""
    library, _ = shelf
    other = Library(library.database, library.projects, uuid.uuid4(), library.project_id)
    assert names(await search(other, "granite")) == []


async def test_an_unknown_project_is_404(search: Search, library: Library) -> None:
    library.projects.access.pop(library.project_id)
    answer = await search(library, "x")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_viewer_may_search_and_a_stranger_may_not_know(search: Search, shelf: Any) -> None:
    library, _ = shelf
    viewer = uuid.uuid4()
    own = Library(library.database, library.projects, uuid.uuid4())
    library.projects.access[own.project_id] = {viewer: "viewer"}
    member = {"user_id": viewer, "tenant_role": "member"}
    assert (await search(own, "x", caller=member)).status_code == 200
    stranger = {"user_id": uuid.uuid4(), "tenant_role": "member"}
    assert (await search(own, "x", caller=stranger)).status_code == 404
    limited = {**member, "scopes": [Scope.DOCUMENTS_READ]}
    assert (await search(own, "x", caller=limited)).status_code == 403
    elsewhere = {"project_id": uuid.uuid4()}
    assert (await search(own, "x", caller=elsewhere)).status_code == 404


async def test_nothing_is_worked_out_for_who_may_not_search(
    search: Search, shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, _ = shelf

    async def embed_query(_model: MiniLM, _text: str, **_options: object) -> None:
        raise AssertionError("a query was embedded")

    monkeypatch.setattr(MiniLM, "embed_query", embed_query)
    stranger = {"user_id": uuid.uuid4(), "tenant_role": "member"}
    assert (await search(library, "x", caller=stranger)).status_code == 404
    assert (await search(library, "x", caller={"scopes": [Scope.DOCUMENTS_READ]})).status_code == 403


async def test_without_an_active_tenant_nothing_is_searched(search: Search, library: Library) -> None:
    assert (await search(library, "x", caller={"tenant_id": None, "tenant_role": None})).status_code == 403
