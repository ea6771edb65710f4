"""Documents like one document: which are found, which never are, and who may ask."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from services.indexing.documents.models import Document
from services.indexing.embedders.minilm import MiniLM
from services.indexing.search.similar.service import SAMPLED, sampled
from services.indexing.vectors.store import ProjectVectors
from shared.auth import ALL_SCOPES, Scope
from shared.tenancy import Database
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.projects_double import ProjectsDouble
from tests.services.indexing.uploads import Library
from tests.support.identity import IdentityDouble
from tests.support.serving import StartedApp

Running = tuple[StartedApp, httpx.AsyncClient]
Similar = Callable[..., Awaitable[httpx.Response]]
Shelf = tuple[Library, dict[str, uuid.UUID]]

TEXTS = {
    "granite": "Granite from the eastern face of the quarry built the harbour wall.",
    "basalt": "Basalt columns were cut in the western quarry and shipped as paving stone.",
    "marble": "\n\n".join(
        f"Marble block {number} was sawn from the quarry and polished; the mason noted its veins. " * 4
        for number in range(6)
    ),
    "bread": "Knead the dough for ten minutes and let it rise until it has doubled.",
    "comets": "Comets are icy bodies that release gas as they pass close to the Sun.",
}


@pytest.fixture(scope="module")
async def shelf(running: Running, database: Database, projects: ProjectsDouble) -> AsyncIterator[Shelf]:
    """Documents on different subjects, indexed once for all tests that only read."""
    library = Library(database, projects, uuid.uuid4())
    documents = {
        name: await library.upload(text, name=f"{name}.txt", metadata={"kind": "food" if name == "bread" else "other"})
        for name, text in TEXTS.items()
    }
    for document_id in documents.values():
        assert await ends(library, document_id) == "indexed"
    yield library, documents


@pytest.fixture
def similar(client: httpx.AsyncClient, tokens: IdentityDouble) -> Similar:
    async def ask(
        library: Library, document_id: uuid.UUID, *, caller: dict[str, object] | None = None, **body: Any
    ) -> httpx.Response:
        who: dict[str, object] = {"tenant_id": library.tenant_id, "user_id": uuid.uuid4(), "scopes": ALL_SCOPES}
        return await client.post(
            f"/v1/projects/{library.project_id}/documents/{document_id}/similar",
            json=body,
            headers=tokens.headers("indexing", **{**who, **(caller or {})}),
        )

    return ask


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["document_name"].removesuffix(".txt") for item in answer.json()["items"]]


@pytest.mark.parametrize("mode", ["hybrid", "semantic"])
async def test_the_most_similar_come_first_each_once_and_never_the_document(
    similar: Similar, shelf: Shelf, mode: str
) -> None:
    library, documents = shelf
    answer = await similar(library, documents["granite"], mode=mode)
    assert sorted(names(answer)) == ["basalt", "bread", "comets", "marble"]
    assert set(names(answer)[:2]) == {"basalt", "marble"}
    scores = [item["score"] for item in answer.json()["items"]]
    assert scores == sorted(scores, reverse=True)
    assert names(await similar(library, documents["granite"], mode=mode, limit=2)) == names(answer)[:2]
    # A long one is compared as a whole.
    assert set(names(await similar(library, documents["marble"], mode=mode))[:2]) == {"basalt", "granite"}


async def test_a_document_is_shown_by_its_best_passage(similar: Similar, shelf: Shelf) -> None:
    library, documents = shelf
    (item,) = (await similar(library, documents["granite"], mode="keyword", limit=1)).json()["items"]
    assert item["text"] in TEXTS[item["document_name"].removesuffix(".txt")]
    assert (item["version"], item["metadata"]) == (1, {"kind": "other"})
    assert names(await similar(library, documents["bread"], mode="keyword")) == []


async def test_a_filter_narrows_and_never_brings_the_document_back(similar: Similar, shelf: Shelf) -> None:
    library, documents = shelf
    food = {"field": "metadata.kind", "eq": "food"}
    itself = {"field": "document_id", "eq": str(documents["granite"])}
    assert names(await similar(library, documents["granite"], filter=food)) == ["bread"]
    assert names(await similar(library, documents["granite"], filter={"any": [food, itself]})) == ["bread"]
    assert (await similar(library, documents["granite"], filter={"field": "nothing"})).status_code == 422


async def test_nothing_is_embedded(similar: Similar, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    library, documents = shelf
    for name in ("embed", "embed_query"):
        monkeypatch.delattr(MiniLM, name)
    assert len(names(await similar(library, documents["comets"]))) == 4


async def test_a_long_document_costs_what_a_short_one_does(
    similar: Similar, shelf: Shelf, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sampled(3) == [0, 1, 2]
    assert sampled(SAMPLED) == [*range(SAMPLED)]
    assert (len(sampled(10_000)), sampled(10_000)[:2], sampled(10_000)[-1]) == (SAMPLED, [0, 312], 9_687)
    library, documents = shelf
    monkeypatch.setattr("services.indexing.search.similar.service.SAMPLED", 2)
    read: list[int] = []
    vectors = ProjectVectors.vectors

    async def counted(self: ProjectVectors, version: Any, indexes: Any, **more: Any) -> Any:
        read.append(len(indexes))
        return await vectors(self, version, indexes, **more)

    monkeypatch.setattr(ProjectVectors, "vectors", counted)
    assert set(names(await similar(library, documents["marble"]))[:2]) == {"basalt", "granite"}
    assert read == [2]


async def test_what_is_not_indexed_yet_says_so(
    similar: Similar, library: Library, shelf: Shelf, database: Database
) -> None:
    document_id = await library.upload(TEXTS["granite"])
    await ends(library, document_id)
    async with database.tenant(library.tenant_id) as session:
        await session.execute(update(Document).values(live_version=None))
    unheard = uuid.uuid4()
    library.projects.content[unheard, 1] = b"uploaded a moment ago"
    for one in (document_id, unheard):
        answer = await similar(library, one)
        assert (answer.status_code, answer.json()["code"]) == (409, "not_indexed")
    assert (await similar(library, uuid.uuid4())).status_code == 404


async def test_what_is_deleted_is_neither_asked_about_nor_found(similar: Similar, library: Library) -> None:
    gone, kept = [await library.upload(TEXTS[name], name=f"{name}.txt") for name in ("granite", "basalt")]
    for document_id in (gone, kept):
        await ends(library, document_id)
    assert names(await similar(library, kept)) == ["granite"]
    await library.delete(gone)
    del library.projects.content[gone, 1]
    assert (await similar(library, gone)).status_code == 404
    assert names(await similar(library, kept)) == []


async def test_who_may_not_search_learns_nothing(
    similar: Similar, shelf: Shelf, library: Library, other_library: Library
) -> None:
    shelved, documents = shelf
    viewer, stranger = uuid.uuid4(), uuid.uuid4()
    shelved.projects.access[shelved.project_id] = {viewer: "viewer"}
    member = {"tenant_role": "member"}
    document_id = documents["granite"]
    assert (await similar(shelved, document_id, caller={**member, "user_id": viewer})).status_code == 200
    for caller, status in (
        ({**member, "user_id": stranger}, 404),
        ({**member, "user_id": viewer, "scopes": [Scope.DOCUMENTS_READ]}, 403),
    ):
        answer = await similar(shelved, document_id, caller=caller)
        assert (answer.status_code, "basalt" in answer.text) == (status, False)
    # Named under another project: of the same tenant, and of another one.
    for elsewhere in (Library(shelved.database, shelved.projects, shelved.tenant_id), other_library):
        del shelved.projects.content[document_id, 1]
        assert (await similar(elsewhere, document_id)).status_code == 404
        if elsewhere is other_library:
            caller = {"tenant_id": other_library.tenant_id}
            assert (await similar(shelved, document_id, caller=caller)).status_code == 404
        shelved.projects.content[document_id, 1] = TEXTS["granite"].encode()
