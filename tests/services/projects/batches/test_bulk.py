"""One action on many documents."""

import asyncio
import uuid
from typing import Any

import pytest
from sqlalchemy import select

from services.projects.documents import bulk as bulk_actions
from services.projects.documents import repository
from services.projects.documents.models import Document
from shared.tenancy import Database
from tests.services.projects.batches.batching import batch_of, bulk, completions, counts, tell, uploaded_to
from tests.services.projects.callers import Caller, announced, code
from tests.support.polling import eventually


async def left(caller: Caller, project_id: uuid.UUID) -> set[str]:
    return {item["id"] for item in (await caller("GET", f"/v1/projects/{project_id}/documents")).json()["items"]}


async def test_a_batch_is_cancelled_in_pieces(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_actions, "MOST", 2)
    path = await batch_of(admin, project_id)
    documents = await uploaded_to(admin, path, *[None] * 5)
    other = await admin.uploaded(project_id)
    await tell(database, tenant_id, documents[:1], "indexed")
    await tell(database, tenant_id, documents[1:2], "indexing")
    cursor: dict[str, str] = {}
    affected = []
    while True:
        answer = await admin("POST", f"{path}/cancel", params=cursor)
        assert answer.status_code == 202, answer.text
        assert answer.json()["batch"]["cancelled_at"] is not None
        affected.append(answer.json()["affected"])
        if answer.json()["next_cursor"] is None:
            break
        cursor = {"cursor": answer.json()["next_cursor"]}
    assert affected == [2, 2, 0]
    asked = [kind for kind, _ in await announced(database, tenant_id) if kind == "document.cancel_requested"]
    assert len(asked) == 4
    await tell(database, tenant_id, documents[1:], "cancelled")
    assert await counts(admin, path) == {"indexed": 1, "cancelled": 4}
    assert len(await completions(database, tenant_id)) == 1
    found = await admin("GET", f"/v1/projects/{project_id}/documents/{other['id']}")
    assert found.json()["status"] == "queued"
    assert code(await admin.upload(project_id, batch=path.rpartition("/")[2])) == (409, "batch_closed")


async def test_documents_are_chosen_by_what_they_are(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    path = await batch_of(admin, project_id)
    (of_batch,) = await uploaded_to(admin, path, None, metadata='{"lang": "de", "n": {"a": 1, "b": 2}}')
    named = await admin.uploaded(project_id, name="größe.txt", metadata='{"lang": "de"}')
    failed = await admin.uploaded(project_id)
    elsewhere = await admin.uploaded(await admin.create_project(), name="größe.txt")
    await tell(database, tenant_id, [failed], "failed")
    batch_id = path.rpartition("/")[2]
    for wanted, chosen in (
        ({"metadata": {"lang": "fr"}}, None),
        ({"metadata": {"lang": "de"}, "status": ["failed"]}, None),
        ({"batch_id": str(uuid.uuid4())}, None),
        ({"name": "\u200b.."}, None),
        ({"batch_id": batch_id, "metadata": {"n": {"a": 1}}}, of_batch),
        ({"name": "folder/gro\u0308ße.txt"}, named),
        ({"status": ["failed", "indexed"]}, failed),
    ):
        before = await left(admin, project_id)
        answer = await bulk(admin, project_id, "delete", filter=wanted)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"affected": 0 if chosen is None else 1, "next_cursor": None}, wanted
        assert before - await left(admin, project_id) == (set() if chosen is None else {chosen["id"]}), wanted
    path = f"/v1/projects/{elsewhere['project_id']}/documents/{elsewhere['id']}"
    assert (await admin("GET", path)).status_code == 200


async def test_an_action_is_taken_where_it_is_possible(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    documents = [await admin.uploaded(project_id) for _ in range(4)]
    link = await admin.uploaded(project_id, b"same")
    await admin.uploaded(project_id, b"same", duplicates="link")
    statuses = ("failed", "cancelled", "indexed", "indexing", "failed")
    for document, status in zip([*documents, link], statuses, strict=True):
        await tell(database, tenant_id, [document], status)
    assert (await bulk(admin, project_id, "retry")).json()["affected"] == 3
    assert (await bulk(admin, project_id, "retry")).json()["affected"] == 0
    assert (await bulk(admin, project_id, "cancel")).json()["affected"] == 4
    assert (await bulk(admin, project_id, "delete")).json()["affected"] == 6
    assert await left(admin, project_id) == set()


async def test_a_request_acts_on_so_many_and_says_where_to_go_on(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_actions, "_LOOKED_AT", 4)
    monkeypatch.setattr(bulk_actions, "_TOGETHER", 2)
    documents = [await admin.uploaded(project_id) for _ in range(9)]
    await tell(database, tenant_id, documents[:1] + documents[8:], "failed")
    pages: list[int] = []
    cursor = None
    while True:
        body: dict[str, Any] = {"filter": {"status": ["failed"]}, "limit": 3, "cursor": cursor}
        answer = (await bulk(admin, project_id, "delete", **body)).json()
        pages.append(answer["affected"])
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert pages == [1, 0, 1]
    answer = (await bulk(admin, project_id, "delete", limit=3)).json()
    assert answer["affected"] == 3
    assert await left(admin, project_id) == {document["id"] for document in documents[1:5]}


async def test_only_documents_of_the_project_are_looked_at(
    admin: Caller, project_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer ones of another project do not take their places."""
    monkeypatch.setattr(bulk_actions, "_LOOKED_AT", 2)
    document = await admin.uploaded(project_id)
    elsewhere = await admin.create_project()
    for _ in range(2):
        await admin.uploaded(elsewhere)
    assert (await bulk(admin, project_id, "delete")).json() == {"affected": 1, "next_cursor": None}, document
    assert len(await left(admin, elsewhere)) == 2


async def test_a_role_lost_meanwhile_ends_the_action(
    admin: Caller, project_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = await admin.member(project_id, "editor")
    document = await admin.uploaded(project_id)
    look = repository.looked_at

    async def look_and_lose_the_role(*arguments: Any, **more: Any) -> Any:
        found = await look(*arguments, **more)
        await admin("DELETE", f"/v1/projects/{project_id}/members/{editor.user_id}")
        return found

    monkeypatch.setattr(repository, "looked_at", look_and_lose_the_role)
    assert code(await bulk(editor, project_id, "delete")) == (404, "not_found")
    assert await left(admin, project_id) == {document["id"]}


async def test_a_document_that_is_locked_holds_up_only_itself(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    """The others are done before it is waited for, so no two transactions wait for each other."""
    documents = [await admin.uploaded(project_id) for _ in range(3)]
    async with database.tenant(tenant_id) as session:
        middle = uuid.UUID(documents[1]["id"])
        await session.scalar(select(Document).where(Document.id == middle).with_for_update())
        deleting = asyncio.create_task(bulk(admin, project_id, "delete"))

        async def others_are_gone() -> bool:
            return await left(admin, project_id) == {documents[1]["id"]}

        await eventually(others_are_gone)
        assert not deleting.done()
    assert (await deleting).json()["affected"] == 3


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"action": "delete"},
        {"action": "delete", "filter": {}},
        {"action": "delete", "filter": {"status": None}},
        {"action": "delete", "filter": {"status": []}},
        {"action": "delete", "filter": {"everything": True}},
        {"action": "purge", "filter": {"status": ["failed"]}},
        {"action": "delete", "filter": {"status": ["failed"]}, "limit": 501},
        {"action": "delete", "filter": {"name": "a\0b"}},
    ],
)
async def test_other_requests_are_refused(admin: Caller, project_id: uuid.UUID, body: dict[str, Any]) -> None:
    document = await admin.uploaded(project_id)
    answer = await admin("POST", f"/v1/projects/{project_id}/documents/bulk", json=body)
    assert code(answer) == (422, "validation_failed")
    assert await left(admin, project_id) == {document["id"]}


async def test_a_cursor_of_nobody_is_refused(admin: Caller, project_id: uuid.UUID) -> None:
    assert code(await bulk(admin, project_id, "delete", cursor="x")) == (400, "invalid_cursor")
