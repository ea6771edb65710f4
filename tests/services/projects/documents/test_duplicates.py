import asyncio
import uuid
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.blobs.files import IncomingFile
from services.projects.blobs.store import BlobKey, BlobStore
from services.projects.documents import cleaning, repository, storing
from services.projects.documents.models import BlobDeletion
from shared.events.indexing import JobCompleted, JobFailed, JobStarted
from shared.tenancy import Database, tenant_of
from tests.services.projects.blobs.files import blobs_of
from tests.services.projects.callers import Caller, announced, code, events
from tests.services.projects.documents.test_status import Job, shown
from tests.support.polling import eventually

AT_ONCE = 40


async def jobs_of(database: Database, tenant_id: uuid.UUID) -> list[tuple[str, int]]:
    """Documents and versions that indexing is asked to index, in order."""
    return [
        (envelope.data["document_id"], envelope.data["version"])
        for envelope in await events(database, tenant_id)
        if envelope.type == "projects.document.uploaded.v1" and not envelope.data.get("linked_to")
    ]


async def listed(caller: Caller, project_id: uuid.UUID) -> list[dict[str, Any]]:
    answer = await caller("GET", f"/v1/projects/{project_id}/documents", params={"limit": 200})
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


@pytest.mark.parametrize(
    ("policy", "statuses"),
    [
        ("reject", [201] + [409] * (AT_ONCE - 1)),
        ("link", [201] * AT_ONCE),
        ("new_version", [200] * (AT_ONCE - 1) + [201]),
    ],
)
async def test_equal_uploads_at_once_are_one_document_one_blob_and_one_job(
    admin: Caller,
    database: Database,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    blob_root: Path,
    policy: str,
    statuses: list[int],
) -> None:
    answers = await asyncio.gather(*(admin.upload(project_id, b"same", duplicates=policy) for _ in range(AT_ONCE)))
    assert sorted(answer.status_code for answer in answers) == statuses
    documents = await listed(admin, project_id)
    own = [document for document in documents if not document["linked"]]
    assert [document["version"] for document in own] == [1]
    assert await jobs_of(database, tenant_id) == [(own[0]["id"], 1)]
    assert [path.parent.name for path in blobs_of(blob_root, tenant_id)] == [own[0]["id"]]
    links = [document for document in documents if document["linked"]]
    assert len(links) == (AT_ONCE - 1 if policy == "link" else 0)
    assert {document["duplicate_of"] for document in links} <= {own[0]["id"]}


async def test_who_is_refused_is_told_of_the_document_that_has_the_content(
    admin: Caller, project_id: uuid.UUID
) -> None:
    first = await admin.uploaded(project_id, b"same")
    answer = await admin.upload(project_id, b"same", duplicates="reject")
    assert code(answer) == (409, "duplicate_document")
    assert answer.json()["document_id"] == first["id"]


async def test_a_link_has_a_name_of_its_own_and_follows_what_it_is_linked_to(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    first = await admin.uploaded(project_id, b"same")
    link = await admin.uploaded(project_id, b"same", name="other.md", metadata='{"n": 1}', duplicates="link")
    assert (link["duplicate_of"], link["linked"], link["status"]) == (first["id"], True, "queued")
    assert (link["name"], link["metadata"], link["version"]) == ("other.md", {"n": 1}, 1)
    path = f"/v1/projects/{project_id}/documents/{link['id']}"
    assert (await admin("GET", f"{path}/content")).content == b"same"
    for verb in ("cancel", "retry"):
        assert code(await admin("POST", f"{path}/{verb}")) == (409, "linked_document")
    job = Job(database, tenant_id, first)
    await job.tells(JobStarted, 1)
    assert (await shown(admin, link))["status"] == "indexing"
    await job.tells(JobCompleted, 2, chunk_count=3, title="Tides")
    for document in (first, link):
        now = await shown(admin, document)
        assert (now["status"], now["chunk_count"], now["title"], now["live_version"]) == ("indexed", 3, "Tides", 1)
    assert (await admin("PATCH", path, json={"metadata": {"n": 2}})).status_code == 200
    told = [envelope for envelope in await events(database, tenant_id) if envelope.subject == link["id"]]
    assert [(envelope.type.split(".")[2], envelope.sequence) for envelope in told] == [
        ("uploaded", 1), ("indexing", 2), ("indexed", 3), ("updated", 4),
    ]  # fmt: skip
    assert [envelope.data["linked_to"] for envelope in (told[0], told[3])] == [first["id"]] * 2


async def test_a_link_to_an_indexed_document_is_indexed_at_once(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    first = await admin.uploaded(project_id, b"same")
    await Job(database, tenant_id, first).tells(JobCompleted, 2, chunk_count=3)
    link = await admin.uploaded(project_id, b"same", duplicates="link")
    assert (link["status"], link["chunk_count"], link["live_version"]) == ("indexed", 3, 1)
    assert (await announced(database, tenant_id))[-2:] == [("document.uploaded", 1), ("document.indexed", 2)]


async def test_nothing_is_linked_to_what_failed(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    first = await admin.uploaded(project_id, b"same")
    await Job(database, tenant_id, first).tells(JobFailed, 2, code="x", reason="y", attempts=1)
    again = await admin.uploaded(project_id, b"same", duplicates="link")
    assert (again["linked"], again["duplicate_of"], again["status"]) == (False, first["id"], "queued")


async def test_a_document_has_so_many_links(
    admin: Caller, project_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "MOST_LINKS", 1)
    made = [await admin.uploaded(project_id, b"same", duplicates="link") for _ in range(4)]
    assert [document["linked"] for document in made] == [False, True, False, True]
    assert made[3]["duplicate_of"] == made[2]["id"]


@pytest.mark.parametrize("change", ["delete", "replace"])
async def test_links_outlive_what_they_are_linked_to(
    admin: Caller,
    database: Database,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    blob_root: Path,
    change: str,
) -> None:
    """The oldest link is indexed instead, the others are linked to it; the bytes go with the last."""
    first, second, third = [await admin.uploaded(project_id, b"same", duplicates="link") for _ in range(3)]
    await Job(database, tenant_id, first).tells(JobCompleted, 2, chunk_count=3)
    path = f"/v1/projects/{project_id}/documents"
    if change == "delete":
        assert (await admin("DELETE", f"{path}/{first['id']}")).status_code == 204
    else:
        assert (await admin("POST", f"{path}/{first['id']}/versions", content=b"other")).status_code == 201
    heir, other = await shown(admin, second), await shown(admin, third)
    for document in (heir, other):
        assert (document["status"], document["live_version"], document["chunk_count"]) == ("queued", None, None)
    assert (heir["linked"], heir["duplicate_of"]) == (False, None)
    assert (other["linked"], other["duplicate_of"]) == (True, second["id"])
    assert (second["id"], 1) in await jobs_of(database, tenant_id)
    assert third["id"] not in [document_id for document_id, _ in await jobs_of(database, tenant_id)]
    await Job(database, tenant_id, heir).tells(JobCompleted, 2, chunk_count=3)
    assert (await shown(admin, third))["status"] == "indexed"

    shared = blob_root / BlobKey.of_upload(tenant_id, project_id, uuid.UUID(first["id"])).path

    for document in (second, third):
        await eventually(lambda: _settled(database, tenant_id))
        assert shared.read_bytes() == b"same"
        assert (await admin("GET", f"{path}/{document['id']}/content")).content == b"same"
        assert (await admin("DELETE", f"{path}/{document['id']}")).status_code == 204
    if change == "replace":
        assert (await admin("DELETE", f"{path}/{first['id']}")).status_code == 204
    await eventually(lambda: _settled(database, tenant_id))
    assert blobs_of(blob_root, tenant_id) == []


async def test_links_deleted_at_once_take_their_bytes_with_them(
    admin: Caller, tenant_id: uuid.UUID, project_id: uuid.UUID, blob_root: Path
) -> None:
    made = [await admin.uploaded(project_id, b"same", duplicates="link") for _ in range(8)]
    paths = [f"/v1/projects/{project_id}/documents/{document['id']}" for document in made]
    assert {answer.status_code for answer in await asyncio.gather(*(admin("DELETE", path) for path in paths))} == {204}

    async def gone() -> bool:
        return blobs_of(blob_root, tenant_id) == []

    await eventually(gone)


async def test_links_made_while_their_document_is_deleted_keep_the_content(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID, blob_root: Path
) -> None:
    first = await admin.uploaded(project_id, b"same")
    path = f"/v1/projects/{project_id}/documents"
    uploads = [admin.upload(project_id, b"same", duplicates="link") for _ in range(6)]
    gone, *made = await asyncio.gather(admin("DELETE", f"{path}/{first['id']}"), *uploads)
    assert (gone.status_code, {answer.status_code for answer in made}) == (204, {201})
    documents = await listed(admin, project_id)
    own = [document["id"] for document in documents if not document["linked"]]
    assert len(own) == 1
    assert {document["duplicate_of"] for document in documents if document["linked"]} == set(own)
    await eventually(lambda: _settled(database, tenant_id))
    for document in documents:
        assert (await admin("GET", f"{path}/{document['id']}/content")).content == b"same"
    assert len(blobs_of(blob_root, tenant_id)) == 1


async def test_bytes_that_a_link_did_not_need_are_removed_after_a_crash(
    admin: Caller,
    database: Database,
    blobs: BlobStore,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    blob_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def crash(_: IncomingFile) -> None:
        return

    await admin.uploaded(project_id, b"same")
    with monkeypatch.context() as patch:
        patch.setattr(IncomingFile, "discard", crash)
        await admin.uploaded(project_id, b"same", duplicates="link")
    assert len(blobs_of(blob_root, tenant_id)) == 2
    await cleaning.settle_leftovers(database, blobs, older_than=timedelta(0))
    assert len(blobs_of(blob_root, tenant_id)) == 1


async def _settled(database: Database, tenant_id: uuid.UUID) -> bool:
    async with database.tenant(tenant_id) as session:
        return (await session.scalars(select(BlobDeletion))).first() is None


async def test_a_deletion_that_comes_while_another_is_worked_on_is_not_lost(
    admin: Caller,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    blob_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A blob is still needed, and before that is noted its last holder is deleted: it is looked at again."""
    first = await admin.uploaded(project_id, b"same")
    link = await admin.uploaded(project_id, b"same", duplicates="link")
    path = f"/v1/projects/{project_id}/documents"
    look, raced = repository.still_referred_to, asyncio.Event()

    async def look_and_lose(session: AsyncSession, blob_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
        found = await look(session, blob_ids)
        if tenant_of(session) == tenant_id and not raced.is_set():
            raced.set()
            assert found
            assert (await admin("DELETE", f"{path}/{link['id']}")).status_code == 204
        return found

    monkeypatch.setattr(repository, "still_referred_to", look_and_lose)
    await admin("DELETE", f"{path}/{first['id']}")
    await raced.wait()

    async def gone() -> bool:
        return blobs_of(blob_root, tenant_id) == []

    await eventually(gone)


async def test_a_new_version_is_made_of_the_document_with_the_name(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    policy = {"duplicates": "new_version"}
    first = await admin.uploaded(project_id, b"one", name="a.txt", metadata='{"n": 1}', **policy)
    second = await admin.uploaded(project_id, b"two", name="a.txt", **policy)
    assert (second["id"], second["version"], second["metadata"]) == (first["id"], 2, {"n": 1})
    third = await admin.uploaded(project_id, b"three", name="a.txt", metadata='{"n": 3}', **policy)
    assert (third["id"], third["version"], third["metadata"]) == (first["id"], 3, {"n": 3})
    same = await admin.upload(project_id, b"three", name="elsewhere.txt", **policy)
    assert (same.status_code, same.json()["id"], same.json()["version"]) == (200, first["id"], 3)
    other = await admin.uploaded(project_id, b"one", name="b.txt", **policy)
    assert (other["id"] == first["id"], other["version"]) == (False, 1)
    assert await jobs_of(database, tenant_id) == [
        (first["id"], 1),
        (first["id"], 2),
        (first["id"], 3),
        (other["id"], 1),
    ]
    sequences = [sequence for kind, sequence in await announced(database, tenant_id) if kind != "project.created"]
    assert sequences == [1, 2, 3, 4, 1]


async def test_uploads_of_one_name_at_once_are_versions_of_one_document(admin: Caller, project_id: uuid.UUID) -> None:
    await asyncio.gather(*(admin.uploaded(project_id, b"%d" % n, duplicates="new_version") for n in range(6)))
    assert [document["version"] for document in await listed(admin, project_id)] == [6]
