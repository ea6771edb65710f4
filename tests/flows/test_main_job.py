"""Upload, see it live, find it: the product's first sentence, through the gateway alone.

`uv run test --system URL` runs it on a system that runs already.
"""

import httpx
import pytest

from tests.support.documents import broken_pdf, note, samples
from tests.support.remote_system import Product
from tests.support.sse import listening
from tests.support.system import all_documents, create_project, document, search, upload

pytestmark = pytest.mark.system


@pytest.fixture(scope="session")
async def owner(product: Product) -> httpx.AsyncClient:
    _, client = await product.tenant("main-job")
    return client


@pytest.fixture(scope="session")
async def stranger(product: Product) -> httpx.AsyncClient:
    """The owner of another tenant."""
    _, client = await product.tenant("stranger")
    return client


async def test_every_format_is_uploaded_seen_live_and_found(owner: httpx.AsyncClient) -> None:
    project = await create_project(owner)
    ids = {}
    async with listening(owner, f"/v1/projects/{project}/events") as live:
        for sample in samples():
            ids[sample.name] = await upload(owner, project, sample.name, sample.content, sample.content_type)
        await live.until(lambda seen: len(seen.of("document.indexed")) == len(ids))

    for sample in samples():
        document_id = ids[sample.name]
        types = live.events_of(document_id)
        assert [name for name in types if name != "job.progressed"] == [
            "document.uploaded",
            "document.indexing",
            "document.indexed",
        ]
        assert "job.progressed" in types
        assert (await document(owner, project, document_id))["status"] == "indexed"

        by_word = (await search(owner, project, sample.keyword, mode="keyword"))[0]
        assert (by_word["document_id"], by_word["document_name"]) == (document_id, sample.name)
        highlighted = [by_word["text"][mark["start"] : mark["end"]].lower() for mark in by_word["highlights"]]
        assert sample.keyword in highlighted
        by_meaning = (await search(owner, project, sample.paraphrase))[0]
        assert by_meaning["document_name"] == sample.name
        assert sample.sentence.split()[1] in by_meaning["text"]

    sequences = [frame.id for frame in live.durable]
    assert sequences == list(range(sequences[0] or 0, (sequences[0] or 0) + len(sequences)))
    assert all(frame.id is None for frame in (*live.of("job.progressed"), *live.of("snapshot")))


async def test_a_page_of_a_pdf_is_named_in_the_hit(owner: httpx.AsyncClient) -> None:
    project = await create_project(owner)
    sample = samples()[0]
    async with listening(owner, f"/v1/projects/{project}/events") as live:
        await upload(owner, project, sample.name, sample.content, sample.content_type)
        await live.until(lambda seen: seen.of("document.indexed"))
    assert (await search(owner, project, sample.keyword))[0]["page"] == 2


async def test_a_broken_pdf_fails_with_a_reason_people_understand(owner: httpx.AsyncClient) -> None:
    project = await create_project(owner)
    async with listening(owner, f"/v1/projects/{project}/events") as live:
        document_id = await upload(owner, project, "broken.pdf", broken_pdf(), "application/pdf")
        await live.until(lambda seen: seen.of("document.failed"))
    (failed,) = live.of("document.failed")
    assert failed.data["code"] == "corrupt_document"
    assert "PDF" in failed.data["reason"]
    state = await document(owner, project, document_id)
    assert (state["status"], state["error"]["code"]) == ("failed", "corrupt_document")


async def test_a_deleted_document_is_gone_from_search_at_once(owner: httpx.AsyncClient) -> None:
    project = await create_project(owner)
    async with listening(owner, f"/v1/projects/{project}/events") as live:
        document_id = await upload(owner, project, "note.txt", note(7))
        await live.until(lambda seen: seen.of("document.indexed"))
        assert await search(owner, project, "marker000007", mode="keyword")
        path = f"/v1/projects/{project}/documents/{document_id}"
        assert (await owner.delete(path)).status_code == 204
        assert (await owner.get(path)).status_code == 404
        await live.until(lambda seen: seen.of("document.deleted"))
    assert await search(owner, project, "marker000007", mode="keyword") == []


async def test_a_stream_is_resumed_where_it_was_left(owner: httpx.AsyncClient) -> None:
    project = await create_project(owner)
    path = f"/v1/projects/{project}/events"
    async with listening(owner, path) as first:
        await upload(owner, project, "one.txt", note(1))
        await first.until(lambda seen: seen.of("document.indexed"))
    await upload(owner, project, "two.txt", note(2))
    async with listening(owner, path, last_event_id=first.last_id) as second:
        await second.until(lambda seen: seen.of("document.indexed"))
    seen = [frame.id for frame in (*first.durable, *second.durable)]
    assert seen == list(range(1, 7))


async def test_content_comes_back_byte_for_byte(owner: httpx.AsyncClient) -> None:
    project = await create_project(owner)
    content = note(3, size=300_000)
    document_id = await upload(owner, project, "note.txt", content)
    path = f"/v1/projects/{project}/documents/{document_id}/content"
    assert (await owner.get(path)).content == content
    part = await owner.get(path, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, content[100:200])


async def test_two_tenants_see_nothing_of_each_other(owner: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    theirs: list[tuple[httpx.AsyncClient, str, str]] = []
    for client, word in ((owner, "albatross"), (stranger, "buzzard")):
        project = await create_project(client, f"Birds, {word}")
        async with listening(client, f"/v1/projects/{project}/events") as live:
            document_id = await upload(client, project, f"{word}.txt", f"The {word} is back.".encode())
            await live.until(lambda seen: seen.of("document.indexed"))
        theirs.append((client, project, document_id))

    for (client, own_project, own_document), (_, project, document_id) in (theirs, theirs[::-1]):
        listed = await all_projects(client)
        assert own_project in listed
        assert project not in listed
        for path in (
            f"/v1/projects/{project}",
            f"/v1/projects/{project}/events",
            f"/v1/projects/{project}/documents",
            f"/v1/projects/{project}/documents/{document_id}",
            f"/v1/projects/{project}/documents/{document_id}/content",
            f"/v1/projects/{own_project}/documents/{document_id}",
        ):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
        body = {"query": "back", "mode": "keyword"}
        assert (await client.post(f"/v1/projects/{project}/search", json=body)).status_code == 404
        assert (await client.delete(f"/v1/projects/{project}/documents/{document_id}")).status_code == 404
        assert [item["id"] for item in await all_documents(client, own_project)] == [own_document]
        for mode in ("keyword", "hybrid"):
            found = await search(client, own_project, "albatross buzzard back", mode=mode)
            assert {item["document_id"] for item in found} == {own_document}, mode


async def all_projects(client: httpx.AsyncClient) -> list[str]:
    """Ids of the projects that a client is shown."""
    ids: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await client.get("/v1/projects", params={"limit": "200", "cursor": cursor} if cursor else None)).json()
        ids += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    return ids


async def test_the_interface_describes_itself(product: Product) -> None:
    anonymous = await product.client()
    described = (await anonymous.get("/openapi.json")).json()["paths"]
    for path in ("/v1/projects", "/v1/projects/{project_id}/documents", "/v1/me"):
        assert path in described
    assert not [path for path in described if path.startswith("/internal")]
    assert (await anonymous.get("/docs")).status_code == 200
    refused = await anonymous.get("/v1/projects")
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
