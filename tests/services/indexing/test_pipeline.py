"""From an upload to a search result, through the whole service."""

import uuid

import httpx

from services.indexing.progress import PROGRESS_STREAM
from tests.services.indexing.uploads import Library
from tests.support.identity import IdentityDouble
from tests.support.polling import eventually

NOTE = "The quarry opened in 1887. Granite from its eastern face built the harbour wall, which still stands."


async def search(
    client: httpx.AsyncClient, tokens: IdentityDouble, library: Library, query: str, **options: object
) -> httpx.Response:
    return await client.post(
        f"/v1/projects/{library.project_id}/search",
        json={"query": query, **options},
        headers=tokens.headers("indexing", tenant_id=library.tenant_id),
    )


async def indexed(library: Library, document_id: uuid.UUID, version: int = 1) -> None:
    async def done() -> bool:
        return await library.state(document_id, version) == "indexed"

    await eventually(done, within=30)


async def test_an_uploaded_note_is_found_by_its_words_and_by_its_meaning(
    client: httpx.AsyncClient, tokens: IdentityDouble, library: Library
) -> None:
    document_id = await library.upload(NOTE, metadata={"lang": "en"})
    await indexed(library, document_id)

    for mode, query in (("keyword", "granite"), ("semantic", "stone used for the port"), ("hybrid", "harbour walls")):
        answer = await search(client, tokens, library, query, mode=mode)
        assert answer.status_code == 200, answer.text
        (item,) = answer.json()["items"]
        assert item["document_id"] == str(document_id)
        assert item["text"] == NOTE
        assert item["metadata"] == {"lang": "en"}
    assert [NOTE[mark["start"] : mark["end"]] for mark in item["highlights"]] == ["harbour", "wall"]
    assert await library.events(document_id) == [("started", 1), ("completed", 2)]
    assert PROGRESS_STREAM
