"""What a tenant has: made with an older system, read again with a newer one."""

import hashlib
from collections.abc import Iterator
from typing import Any

import httpx

from tests.support.documents import note
from tests.support.sse import listening
from tests.support.system import all_documents, create_project, search, settled, upload

Json = Any
NOTES = 20
QUERY = "how was the railway kept in repair"


async def make(client: httpx.AsyncClient) -> None:
    """Two projects, one of them deleted; in the other documents of several states, and keys, one of them revoked."""
    await _made(client, "/v1/api-keys", {"name": "kept", "scopes": ["search"]})
    revoked = await _made(client, "/v1/api-keys", {"name": "revoked", "scopes": ["search"]})
    (await client.delete(f"/v1/api-keys/{revoked['id']}")).raise_for_status()
    await _made(client, "/v1/invitations", {"email": "guest@example.test", "role": "member"})
    deleted = await create_project(client, "deleted")
    await upload(client, deleted, "hidden.txt", note(500))
    await _delete(client, f"/v1/projects/{deleted}")
    project = await create_project(client, "kept")
    for number in range(NOTES):
        await upload(client, project, f"note-{number}.txt", note(number, size=4000))
    await upload(client, project, "page.html", b"<h1>Railway</h1><p>The railway was kept in repair.</p>", "text/html")
    await upload(client, project, "twin.txt", note(0, size=4000))
    await upload(client, project, "nothing.bin", bytes(range(256)) * 8, "application/octet-stream")
    documents = await settled(client, project, NOTES + 3, within=180)
    gone = next(item for item in documents if item["name"] == "note-3.txt")
    await _delete(client, f"/v1/projects/{project}/documents/{gone['id']}")


async def seen(client: httpx.AsyncClient) -> dict[str, Json]:
    """Whatever its client can read, by name."""
    found = {
        "caller": await _read(client, "/v1/me"),
        "tenants": await _items(client, "/v1/tenants"),
        "members": await _items(client, "/v1/members"),
        "keys": await _items(client, "/v1/api-keys"),
        "invitations": await _items(client, "/v1/invitations"),
        "projects": await _items(client, "/v1/projects"),
        "deleted projects": await _items(client, "/v1/projects?status=deleted"),
    }
    for project in found["projects"]:
        path = f"/v1/projects/{project['id']}"
        documents = await all_documents(client, project["id"])
        found[f"members of {project['name']}"] = await _items(client, f"{path}/members")
        found[f"documents of {project['name']}"] = documents
        found[f"jobs of {project['name']}"] = await _items(client, f"{path}/jobs")
        found[f"contents of {project['name']}"] = [
            await _digest(client, f"{path}/documents/{document['id']}/content") for document in documents
        ]
        found[f"events of {project['name']}"] = await _events(client, f"{path}/events", len(documents))
        for mode in ("keyword", "semantic", "hybrid"):
            found[f"{mode} search of {project['name']}"] = await search(client, project["id"], QUERY, mode)
    return found


async def go_on(client: httpx.AsyncClient) -> None:
    """Restore what was deleted, add to what there is and replace it, and find it."""
    (deleted,) = await _items(client, "/v1/projects?status=deleted")
    (await client.post(f"/v1/projects/{deleted['id']}/restore")).raise_for_status()
    assert len(await settled(client, deleted["id"], 1)) == 1
    (kept,) = [item for item in await _items(client, "/v1/projects") if item["name"] == "kept"]
    count = len(await all_documents(client, kept["id"]))
    await upload(client, kept["id"], "added.txt", b"The lighthouse keeper wrote of ptarmigans.")
    await settled(client, kept["id"], count + 1)
    hits = await search(client, kept["id"], "ptarmigans", "keyword")
    assert [hit["document_name"] for hit in hits] == ["added.txt"], hits
    old = next(item for item in await all_documents(client, kept["id"]) if item["name"] == "note-5.txt")
    path = f"/v1/projects/{kept['id']}/documents/{old['id']}"
    before = await _digest(client, f"{path}/content")
    (await client.post(f"{path}/versions", content=b"The keeper has left, write the quokkas.")).raise_for_status()
    await settled(client, kept["id"], count + 1)
    hits = await search(client, kept["id"], "quokkas", "keyword")
    assert [(hit["document_name"], hit["version"]) for hit in hits] == [("note-5.txt", 2)], hits
    assert [item["version"] for item in await _items(client, f"{path}/versions")] == [2, 1]
    assert await _digest(client, f"{path}/content?version=1") == before


def lost(before: Json, after: Json, where: str) -> Iterator[str]:
    """What `before` held that `after` does not, as lines; fields that were added do not count."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            yield from lost(value, after.get(name, "(nothing)"), f"{where}.{name}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from lost(old, new, f"{where}[{number}]")
    elif isinstance(before, float) and isinstance(after, float):
        if abs(before - after) > 1e-6:
            yield f"{where}: {before} is now {after}"
    elif before != after:
        yield f"{where}: {str(before)[:200]} is now {str(after)[:200]}"


async def _made(client: httpx.AsyncClient, path: str, body: Json) -> Json:
    response = await client.post(path, json=body)
    response.raise_for_status()
    return response.json()


async def _read(client: httpx.AsyncClient, path: str) -> Json:
    response = await client.get(path)
    response.raise_for_status()
    return response.json()


async def _delete(client: httpx.AsyncClient, path: str) -> None:
    tag = (await client.get(path)).headers["ETag"]
    (await client.delete(path, headers={"If-Match": tag})).raise_for_status()


async def _items(client: httpx.AsyncClient, path: str) -> list[Json]:
    found = await _read(client, path)
    items: list[Json] = found["items"] if isinstance(found, dict) else found
    return items


async def _digest(client: httpx.AsyncClient, path: str) -> str:
    response = await client.get(path)
    response.raise_for_status()
    return hashlib.sha256(response.content).hexdigest()


async def _events(client: httpx.AsyncClient, path: str, documents: int) -> list[Json]:
    """The durable events of a feed from its beginning: at least two for each of its documents."""
    async with listening(client, path, last_event_id=0) as live:
        await live.until(lambda seen: len(seen.durable) >= 2 * documents)
    return [{"id": frame.id, "event": frame.event, "data": frame.data} for frame in live.durable]
