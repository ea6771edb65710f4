"""A document gets new content: search finds the old text until the new one is indexed, and never both or neither."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.support.documents import broken_pdf
from tests.support.remote_system import Product
from tests.support.sse import listening
from tests.support.system import create_project, document, search, upload

pytestmark = pytest.mark.system

OLD = b"The albatross circles the lighthouse."
NEW = b"The buzzard circles the lighthouse. " * 200


@pytest.fixture(scope="session")
async def owner(product: Product) -> httpx.AsyncClient:
    _, client = await product.tenant("versions")
    return client


async def found(client: httpx.AsyncClient, project: str) -> set[tuple[int, str]]:
    """Which versions a search for either text finds, and with which bird."""
    hits = await search(client, project, "albatross buzzard", mode="keyword")
    return {(hit["version"], "buzzard" if "buzzard" in hit["text"] else "albatross") for hit in hits}


async def test_a_new_version_replaces_the_old_one_in_one_switch(owner: httpx.AsyncClient) -> None:
    project = await create_project(owner)
    path = f"/v1/projects/{project}/events"
    async with listening(owner, path) as live:
        document_id = await upload(owner, project, "bird.txt", OLD)
        await live.until(lambda seen: seen.of("document.indexed"))
        versions = f"/v1/projects/{project}/documents/{document_id}/versions"
        seen: list[set[tuple[int, str]]] = [await found(owner, project)]
        switched = asyncio.Event()

        async def watch() -> None:
            while not switched.is_set():
                seen.append(await found(owner, project))

        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch())
            answer = await owner.post(versions, content=NEW, headers={"Content-Type": "text/plain"})
            assert (answer.status_code, answer.json()["version"]) == (201, 2), answer.text
            await live.until(lambda frames: len(frames.of("document.indexed")) == 2)
            switched.set()
            await watching
        seen.append(await found(owner, project))
        old, new = {(1, "albatross")}, {(2, "buzzard")}
        switch = seen.index(new)
        assert seen == [old] * switch + [new] * (len(seen) - switch)
        assert switch > 0
        assert [event for event in live.events_of(document_id) if event != "job.progressed"] == [
            *("document.uploaded", "document.indexing", "document.indexed"),
            *("document.version_added", "document.indexing", "document.indexed"),
        ]
        answer = await owner.post(f"{versions}/1/restore")
        assert (answer.status_code, answer.json()["version"]) == (201, 3), answer.text
        await live.until(lambda frames: len(frames.of("document.indexed")) == 3)
    assert await found(owner, project) == {(3, "albatross")}


async def test_a_version_that_fails_leaves_the_old_one_in_search(owner: httpx.AsyncClient) -> None:
    project = await create_project(owner)
    async with listening(owner, f"/v1/projects/{project}/events") as live:
        document_id = await upload(owner, project, "bird.txt", OLD)
        await live.until(lambda seen: seen.of("document.indexed"))
        path = f"/v1/projects/{project}/documents/{document_id}"
        pdf: dict[str, Any] = {"content": broken_pdf(), "headers": {"Content-Type": "application/pdf"}}
        assert (await owner.post(f"{path}/versions", **pdf)).status_code == 201
        await live.until(lambda seen: seen.of("document.failed"))
    state = await document(owner, project, document_id)
    assert (state["status"], state["version"], state["live_version"]) == ("failed", 2, 1)
    assert await found(owner, project) == {(1, "albatross")}
    assert (await owner.get(f"{path}/content", params={"version": 1})).content == OLD


async def test_content_that_is_linked_is_found_once(owner: httpx.AsyncClient) -> None:
    """Under the document that has it; when that is deleted, under the link."""
    project = await create_project(owner)
    documents = f"/v1/projects/{project}/documents"
    async with listening(owner, f"/v1/projects/{project}/events") as live:
        first = await upload(owner, project, "bird.txt", OLD)
        await live.until(lambda seen: seen.of("document.indexed"))
        answer = await owner.post(documents, params={"name": "same.txt", "duplicates": "link"}, content=OLD)
        link = answer.json()
        assert (answer.status_code, link["duplicate_of"], link["status"]) == (201, first, "indexed"), answer.text
        changed = await owner.patch(f"{documents}/{link['id']}", json={"name": "renamed.txt"})
        assert changed.status_code == 200
        hits = await search(owner, project, "albatross", mode="keyword")
        assert [hit["document_id"] for hit in hits] == [first]
        await live.until(lambda seen: len(seen.of("document.indexed")) == 2)
        assert (await owner.delete(f"{documents}/{first}")).status_code == 204
        await live.until(lambda seen: len(seen.of("document.indexed")) == 3)
    hits = await search(owner, project, "albatross", mode="keyword")
    assert [(hit["document_id"], hit["document_name"]) for hit in hits] == [(link["id"], "renamed.txt")]
