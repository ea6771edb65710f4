import uuid
from pathlib import Path
from typing import Any

import pytest

from services.projects.documents.names import MAX_NAME
from shared.auth import Scope
from shared.tenancy import Database
from tests.services.projects.callers import Caller, announced, code, events
from tests.support.polling import eventually


def at(document: dict[str, Any], suffix: str = "") -> str:
    return f"/v1/projects/{document['project_id']}/documents/{document['id']}{suffix}"


async def test_documents_are_listed_newest_first_page_by_page(admin: Caller, project_id: uuid.UUID) -> None:
    documents = [await admin.uploaded(project_id) for _ in range(5)]
    path = f"/v1/projects/{project_id}/documents"
    first = (await admin("GET", path, params={"limit": 3})).json()
    second = (await admin("GET", path, params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert first["items"] + second["items"] == documents[::-1]
    assert second["next_cursor"] is None
    project = (await admin("GET", f"/v1/projects/{project_id}")).json()
    assert project["document_count"] == 5
    assert project["document_counts"] == {"queued": 5, "indexing": 0, "indexed": 0, "failed": 0, "cancelled": 0}
    assert project["document_bytes"] == sum(document["size"] for document in documents)
    (listed,) = [one for one in (await admin("GET", "/v1/projects")).json()["items"] if one["id"] == str(project_id)]
    assert listed == project


async def test_documents_are_filtered_by_exact_values(admin: Caller, project_id: uuid.UUID) -> None:
    first = await admin.uploaded(project_id, b"one", name="one.txt")
    await admin.uploaded(project_id, b"two", name="two.txt")
    path = f"/v1/projects/{project_id}/documents"

    async def found(**params: str) -> list[str]:
        return [item["id"] for item in (await admin("GET", path, params=params)).json()["items"]]

    assert await found(name="one.txt") == [first["id"]]
    assert await found(name="one") == []
    assert await found(sha256=first["sha256"]) == [first["id"]]
    assert len(await found(status="queued")) == 2
    assert await found(status="failed") == []
    for params in ({"status": "lost"}, {"sha256": "x"}, {"name": "\x00"}, {"limit": "0"}, {"limit": "201"}):
        assert code(await admin("GET", path, params=params)) == (422, "validation_failed")


async def test_a_patch_changes_name_and_metadata(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    document = await admin.uploaded(project_id)
    answer = await admin("PATCH", at(document), json={"name": "x/y.txt", "metadata": {"a": [1]}})
    assert answer.status_code == 200
    assert answer.headers["etag"] == '"2"'
    assert answer.json() == {**document, "name": "y.txt", "metadata": {"a": [1]}}
    answer = await admin("PATCH", at(document), json={"name": "z.txt"}, headers={"If-Match": '"2"'})
    assert (answer.json()["name"], answer.json()["metadata"]) == ("z.txt", {"a": [1]})
    assert (await admin("PATCH", at(document), json={})).headers["etag"] == '"3"'
    changes = [event for event in await events(database, tenant_id) if event.type == "projects.document.updated.v1"]
    assert [(change.sequence, change.data["name"]) for change in changes] == [(2, "y.txt"), (3, "z.txt")]


async def test_a_stale_revision_of_a_document_is_refused(admin: Caller, project_id: uuid.UUID) -> None:
    document = await admin.uploaded(project_id)
    stale = {"If-Match": '"2"'}
    assert code(await admin("PATCH", at(document), json={"name": "x"}, headers=stale)) == (412, "precondition_failed")
    assert code(await admin("DELETE", at(document), headers=stale)) == (412, "precondition_failed")
    assert (await admin("GET", at(document))).headers["etag"] == '"1"'


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""},
        {"name": ".."},
        {"name": "x" * (MAX_NAME + 1)},
        {"name": None},
        {"metadata": None},
        {"metadata": {"nul": "\x00"}},
        {"status": "indexed"},
        {"tenant_id": str(uuid.uuid4())},
    ],
)
async def test_an_unacceptable_patch_is_refused(admin: Caller, project_id: uuid.UUID, body: dict[str, Any]) -> None:
    document = await admin.uploaded(project_id)
    assert code(await admin("PATCH", at(document), json=body)) == (422, "validation_failed")


async def test_a_deleted_document_is_gone_at_once_and_its_bytes_soon(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID, blob_root: Path
) -> None:
    document = await admin.uploaded(project_id)
    answer = await admin("DELETE", at(document), headers={"If-Match": '"1"'})
    assert (answer.status_code, answer.content) == (204, b"")
    for suffix in ("", "/content"):
        assert code(await admin("GET", at(document, suffix))) == (404, "not_found")
    assert code(await admin("DELETE", at(document))) == (404, "not_found")
    assert (await admin("GET", f"/v1/projects/{project_id}/documents")).json()["items"] == []
    project = (await admin("GET", f"/v1/projects/{project_id}")).json()
    assert (project["document_count"], project["document_bytes"]) == (0, 0)
    assert (await announced(database, tenant_id))[-1] == ("document.deleted", 2)
    place = blob_root / str(tenant_id) / str(project_id) / document["id"]

    async def removed() -> bool:
        return not place.exists()

    await eventually(removed)


async def test_cancelling_asks_indexing_and_waits_for_its_answer(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    document = await admin.uploaded(project_id)
    answer = await admin("POST", at(document, "/cancel"))
    assert answer.status_code == 202
    assert answer.json() == document
    envelope = (await events(database, tenant_id))[-1]
    assert (envelope.type, envelope.sequence) == ("projects.document.cancel_requested.v1", 2)
    assert envelope.data["actor_id"] == str(admin.user_id)


async def test_a_queued_document_cannot_be_retried(admin: Caller, project_id: uuid.UUID) -> None:
    document = await admin.uploaded(project_id)
    assert code(await admin("POST", at(document, "/retry"))) == (409, "not_retryable")


async def test_reading_documents_takes_the_scope(admin: Caller, project_id: uuid.UUID) -> None:
    document = await admin.uploaded(project_id)
    blind = admin.limited(scopes={Scope.PROJECTS_READ})
    for path in (f"/v1/projects/{project_id}/documents", at(document), at(document, "/content")):
        assert code(await blind("GET", path)) == (403, "forbidden")
    viewer = await admin.member(project_id, "viewer")
    for path in (f"/v1/projects/{project_id}/documents", at(document), at(document, "/content")):
        assert (await viewer("GET", path)).status_code == 200
