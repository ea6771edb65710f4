import asyncio
import uuid
from typing import Any

import pytest

from services.projects.batches import counting
from shared.events.projects import DocumentUploaded
from shared.tenancy import Database
from tests.services.projects.batches.batching import (
    batch_of,
    completions,
    counts,
    tell,
    uploaded_to,
)
from tests.services.projects.callers import Caller, code, events


async def test_a_batch_counts_its_documents_and_is_completed_once(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    path = await batch_of(admin, project_id, name="Archive")
    documents = await uploaded_to(admin, path, *[None] * 6)
    await admin.uploaded(project_id)
    assert {document["batch_id"] for document in documents} == {path.rpartition("/")[2]}
    assert await counts(admin, path) == {"queued": 6}
    await tell(database, tenant_id, documents[:4], "indexing")
    assert await counts(admin, path) == {"queued": 2, "indexing": 4}
    await tell(database, tenant_id, documents[:3], "indexed")
    await tell(database, tenant_id, documents[3:4], "failed")
    await tell(database, tenant_id, documents[4:5], "cancelled")
    assert await counts(admin, path) == {"queued": 1, "indexed": 3, "failed": 1, "cancelled": 1}
    closed = (await admin("POST", f"{path}/close")).json()
    assert (closed["status"], closed["completed_at"]) == ("closed", None)
    assert await completions(database, tenant_id) == []
    deleted = await admin("DELETE", f"/v1/projects/{project_id}/documents/{documents[5]['id']}")
    assert deleted.status_code == 204
    assert await counts(admin, path) == {"indexed": 3, "failed": 1, "cancelled": 1, "deleted": 1}
    done = (await admin("GET", path)).json()
    assert (done["status"], done["completed_at"] is None) == ("completed", False)
    (told,) = await completions(database, tenant_id)
    facts = {"name": "Archive", "indexed": 3, "failed": 1, "cancelled": 1, "deleted": 1}
    assert {name: told[name] for name in facts} == facts
    assert told["batch_id"] == done["id"]

    retried = await admin("POST", f"/v1/projects/{project_id}/documents/{documents[3]['id']}/retry")
    assert retried.status_code == 202
    assert await counts(admin, path) == {"queued": 1, "indexed": 3, "cancelled": 1, "deleted": 1}
    await tell(database, tenant_id, documents[3:4], "indexed")
    assert (await admin("POST", f"{path}/close")).json()["status"] == "completed"
    assert len(await completions(database, tenant_id)) == 1


async def test_errors_are_shown_for_each_document(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    path = await batch_of(admin, project_id)
    documents = await uploaded_to(admin, path, None, None, None)
    await admin.uploaded(project_id)
    await tell(database, tenant_id, documents[:2], "failed")
    items = (await admin("GET", f"{path}/items", params={"status": "failed", "limit": 1})).json()
    rest = (await admin("GET", f"{path}/items", params={"status": "failed", "cursor": items["next_cursor"]})).json()
    assert [item["id"] for item in items["items"] + rest["items"]] == [documents[1]["id"], documents[0]["id"]]
    assert items["items"][0]["error"] == {"code": "corrupt", "reason": "It is damaged."}
    assert len((await admin("GET", f"{path}/items")).json()["items"]) == 3


@pytest.mark.parametrize("form", [False, True])
async def test_documents_of_a_batch_are_indexed_after_others(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID, form: bool
) -> None:
    path = await batch_of(admin, project_id)
    batch_id = path.rpartition("/")[2]
    if form:
        files: dict[str, Any] = {"file": ("a.txt", b"text")}
        answer = await admin("POST", f"/v1/projects/{project_id}/documents", files=files, data={"batch": batch_id})
        assert (answer.status_code, answer.json()["batch_id"]) == (201, batch_id)
    else:
        await uploaded_to(admin, path)
    await admin.uploaded(project_id)
    told = [envelope.data for envelope in await events(database, tenant_id) if envelope.type == DocumentUploaded.type]
    assert [data["lane"] for data in told] == ["bulk", "interactive"]


async def test_a_batch_that_has_all_it_expects_is_closed(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    path = await batch_of(admin, project_id, expected=2)
    documents = await uploaded_to(admin, path, None, None)
    assert (await admin("GET", path)).json()["status"] == "closed"
    await tell(database, tenant_id, documents, "indexed")
    assert (await admin("GET", path)).json()["status"] == "completed"
    assert len(await completions(database, tenant_id)) == 1


async def test_a_closed_batch_takes_no_documents(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    path = await batch_of(admin, project_id)
    closed = (await admin("POST", f"{path}/close")).json()
    assert (closed["status"], closed["counts"]["total"]) == ("completed", 0)
    assert len(await completions(database, tenant_id)) == 1
    for content in (b"small", bytes(100_000)):
        answer = await admin.upload(project_id, content, batch=path.rpartition("/")[2])
        assert code(answer) == (409, "batch_closed")
    assert (await admin("GET", f"/v1/projects/{project_id}/documents")).json()["items"] == []


async def test_a_batch_that_is_closed_during_an_upload_refuses_it(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes second to the batch's row loses: no document is in a batch that was told to be complete."""
    path = await batch_of(admin, project_id)
    join = counting.join

    def join_and_wait(*arguments: Any) -> None:
        join(*arguments)
        joined.set()

    async def expected(*_: object, **__: object) -> None:
        """It was open when it was looked at."""
        assert (await admin("POST", f"{path}/close")).json()["status"] == "completed"

    joined = asyncio.Event()
    monkeypatch.setattr(counting, "expect_open", expected)
    monkeypatch.setattr(counting, "join", join_and_wait)
    answer = await admin.upload(project_id, batch=path.rpartition("/")[2])
    assert joined.is_set()
    assert code(answer) == (409, "batch_closed")
    assert (await admin("GET", f"/v1/projects/{project_id}/documents")).json()["items"] == []
    assert await counts(admin, path) == {}
    assert len(await completions(database, tenant_id)) == 1


async def test_uploads_at_once_are_all_counted(admin: Caller, project_id: uuid.UUID) -> None:
    path = await batch_of(admin, project_id)
    await asyncio.gather(*(uploaded_to(admin, path) for _ in range(12)))
    assert await counts(admin, path) == {"queued": 12}


async def test_a_new_version_goes_over_to_the_batch_it_came_with(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    first, second = [await batch_of(admin, project_id) for _ in range(2)]
    options = {"name": "same.txt", "duplicates": "new_version"}
    (document,) = await uploaded_to(admin, first, b"one", **options)
    await tell(database, tenant_id, [document], "indexed")
    (newer,) = await uploaded_to(admin, second, b"two", **options)
    assert (newer["id"], newer["version"]) == (document["id"], 2)
    assert (await counts(admin, first), await counts(admin, second)) == ({}, {"queued": 1})
    path = f"/v1/projects/{project_id}/documents/{document['id']}"
    await tell(database, tenant_id, [newer], "failed")
    assert (await admin("POST", f"{path}/versions", content=b"three")).json()["batch_id"] == second.rpartition("/")[2]
    assert await counts(admin, second) == {"queued": 1}


async def test_links_are_counted_as_what_they_follow(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    first, second = [await batch_of(admin, project_id) for _ in range(2)]
    (document,) = await uploaded_to(admin, first, b"same")
    await uploaded_to(admin, second, b"same", duplicates="link")
    await tell(database, tenant_id, [document], "indexed")
    await uploaded_to(admin, second, b"same", duplicates="link")
    assert (await counts(admin, first), await counts(admin, second)) == ({"indexed": 1}, {"indexed": 2})
    deleted = await admin("DELETE", f"/v1/projects/{project_id}/documents/{document['id']}")
    assert deleted.status_code == 204
    assert (await counts(admin, first), await counts(admin, second)) == ({"deleted": 1}, {"queued": 2})


async def test_so_many_open_batches_of_a_tenant(admin: Caller, outsider: Caller, database: Database) -> None:
    project_id = await admin.create_project()
    paths = await asyncio.gather(*(batch_of(admin, project_id) for _ in range(100)))
    refused = await admin("POST", f"/v1/projects/{project_id}/batches", json={})
    assert code(refused) == (403, "quota_exceeded")
    assert (refused.json()["quota"], refused.json()["limit"]) == ("open_batches", 100)
    await batch_of(outsider, await outsider.create_project())
    assert (await admin("POST", f"{paths[0]}/close")).status_code == 200
    await batch_of(admin, project_id)


async def test_batches_are_found_in_their_own_project_only(admin: Caller, project_id: uuid.UUID) -> None:
    path = await batch_of(admin, project_id)
    batch_id = path.rpartition("/")[2]
    elsewhere = await admin.create_project()
    moved = f"/v1/projects/{elsewhere}/batches/{batch_id}"
    for method, route in (
        ("GET", moved),
        ("GET", f"{moved}/items"),
        ("POST", f"{moved}/close"),
        ("POST", f"{moved}/cancel"),
    ):
        assert code(await admin(method, route)) == (404, "not_found")
    for content in (b"small", bytes(100_000)):
        assert code(await admin.upload(elsewhere, content, batch=batch_id)) == (404, "not_found")
    assert [item["id"] for item in (await admin("GET", path.rpartition("/")[0])).json()["items"]] == [batch_id]
    assert (await admin("GET", moved.rpartition("/")[0])).json()["items"] == []
    assert (await admin("GET", path)).json()["status"] == "open"


@pytest.mark.parametrize("batch", ["x", ""])
async def test_a_batch_that_is_no_id_is_refused(admin: Caller, project_id: uuid.UUID, batch: str) -> None:
    assert (await admin.upload(project_id, batch=batch)).status_code == 422
    files: dict[str, Any] = {"file": ("a.txt", b"text")}
    answer = await admin("POST", f"/v1/projects/{project_id}/documents", files=files, data={"batch": batch})
    assert code(answer) == (422, "invalid_upload")
