"""Guards of indexing that no other test would miss if they were gone; see `tests/isolation/mutations`."""

import asyncio
import uuid
from typing import Any

import aiohttp
import httpx

from services.indexing.documents import repository
from services.indexing.search.dependencies import SearchResources
from services.indexing.vectors.points import ChunkPoint
from services.indexing.vectors.store import ProjectVectors
from shared.auth import ALL_SCOPES, PrincipalKind, TokenVerifier
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.uploads import Library
from tests.support.identity import IdentityDouble
from tests.support.serving import StartedApp

Running = tuple[StartedApp, httpx.AsyncClient]


class Owner:
    """The owner of the libraries' tenant."""

    def __init__(self, client: httpx.AsyncClient, tokens: IdentityDouble, library: Library) -> None:
        self._client = client
        self._headers = tokens.headers("indexing", tenant_id=library.tenant_id, scopes=ALL_SCOPES)

    async def search(self, library: Library, query: str, **options: Any) -> httpx.Response:
        path = f"/v1/projects/{library.project_id}/search"
        return await self._client.post(path, json={"query": query, **options}, headers=self._headers)

    async def get(self, library: Library, path: str) -> Any:
        answer = await self._client.get(f"/v1/projects/{library.project_id}/{path}", headers=self._headers)
        assert answer.status_code == 200, answer.text
        return answer.json()


def neighbour_of(library: Library) -> Library:
    """Another project of the same tenant."""
    return Library(library.database, library.projects, library.tenant_id)


async def test_a_hit_of_another_project_is_not_shown(
    running: Running, tokens: IdentityDouble, library: Library
) -> None:
    """The vector store says a document is of this project; its row, which decides, says it is of another."""
    owner, elsewhere = Owner(running[1], tokens, library), neighbour_of(library)
    document_id = await elsewhere.upload("The secret is kept elsewhere.")
    await ends(elsewhere, document_id)
    engine = running[0].resources(SearchResources).search
    strayed: ProjectVectors = engine.store.project(library.tenant_id, library.project_id)
    document = await elsewhere.document(document_id)
    vector = await engine.embedders.target.embed_query("secret", caller=None)
    await strayed.upsert(
        [
            ChunkPoint(
                document_id=document_id, version=1, chunk_index=0, vector=vector, text="secret",
                content_type="text/plain", created_at=document.created_at,
            )
        ]
    )  # fmt: skip
    assert (await owner.search(library, "secret")).json()["items"] == []
    assert len((await owner.search(elsewhere, "secret")).json()["items"]) == 1


async def test_a_cursor_of_another_project_is_refused(
    running: Running, tokens: IdentityDouble, library: Library
) -> None:
    owner, elsewhere = Owner(running[1], tokens, library), neighbour_of(library)
    for shelf in (library, elsewhere):
        for number in range(2):
            await ends(shelf, await shelf.upload(f"Stone number {number}."))
    cursor = (await owner.search(elsewhere, "stone", limit=1)).json()["next_cursor"]
    assert cursor is not None
    answer = await owner.search(library, "stone", limit=1, cursor=cursor)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


async def test_jobs_are_listed_within_a_project(running: Running, tokens: IdentityDouble, library: Library) -> None:
    owner, elsewhere = Owner(running[1], tokens, library), neighbour_of(library)
    held = uuid.uuid4()
    gate = library.projects.held[held] = asyncio.Event()
    await elsewhere.upload("text", document_id=held)
    await ends(elsewhere, held, "extracting")
    assert await owner.get(library, "jobs") == {"items": [], "next_cursor": None}
    assert await owner.get(library, "progress") == {"jobs": []}
    assert len((await owner.get(elsewhere, "progress"))["jobs"]) == 1
    gate.set()
    await ends(elsewhere, held)
    failed = await elsewhere.upload(b"%PDF-1.7 nothing", name="broken.pdf", content_type="application/pdf")
    await ends(elsewhere, failed, "failed")
    assert (await owner.get(library, "dead-letters"))["items"] == []
    assert len((await owner.get(elsewhere, "dead-letters"))["items"]) == 1


async def test_a_version_that_is_not_live_is_not_shown(
    running: Running, tokens: IdentityDouble, library: Library
) -> None:
    """Its chunks and points are there, as they are while it is being indexed; search goes on with the one before."""
    owner = Owner(running[1], tokens, library)
    document_id = await library.upload("Granite built the wall.")
    await ends(library, document_id)
    document = await library.document(document_id)
    engine = running[0].resources(SearchResources).search
    unfinished = {"project_id": library.project_id, "document_id": document_id, "version": 2, "chunk_index": 0}
    async with library.database.tenant(library.tenant_id) as session:
        row = {**unfinished, "start_offset": 0, "end_offset": 7, "page": None, "text": "Zeppelin"}
        await repository.add_chunks(session, [row])
    vectors: ProjectVectors = engine.store.project(library.tenant_id, library.project_id)
    await vectors.upsert(
        [
            ChunkPoint(
                document_id=document_id, version=2, chunk_index=0, text="Zeppelin",
                generation=await library.generation(),
                vector=await engine.embedders.target.embed_query("Zeppelin", caller=None),
                content_type="text/plain", created_at=document.created_at,
            )
        ]
    )  # fmt: skip
    assert (await owner.search(library, "zeppelin", mode="keyword")).json()["items"] == []
    assert [item["version"] for item in (await owner.search(library, "granite")).json()["items"]] == [1]


async def test_the_token_content_is_fetched_with_speaks_for_the_jobs_tenant(
    running: Running, tokens: IdentityDouble, library: Library
) -> None:
    """For that tenant and for nobody in particular; the owner of the bytes then looks in that tenant alone."""
    before = len(library.projects.credentials)
    await ends(library, await library.upload("text"))
    async with aiohttp.ClientSession() as http:
        verifier = TokenVerifier("projects", tokens.url, http)
        shown = [credential.removeprefix("Bearer ") for credential in library.projects.credentials[before:]]
        principals = [await verifier.verify(token) for token in shown]
    assert [(found.kind, found.tenant_id, found.user_id) for found in principals] == [
        (PrincipalKind.SERVICE, library.tenant_id, None)
    ]
