import asyncio
import hashlib
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import ProgrammingError

from services.projects.blobs.store import BlobKey, BlobStore
from services.projects.documents import cleaning, storing
from services.projects.versions.models import DocumentVersion
from shared.events.indexing import JobCancelled, JobCompleted, JobFailed
from shared.tenancy import Database
from tests.services.projects.blobs.files import blobs_of
from tests.services.projects.callers import Caller, announced, code, events
from tests.services.projects.documents.test_cleaning import NOW
from tests.services.projects.documents.test_status import Job, shown
from tests.services.projects.test_quotas import delete_tenant, usage
from tests.support.polling import eventually


@pytest.fixture
async def document(admin: Caller, project_id: uuid.UUID) -> dict[str, Any]:
    return await admin.uploaded(project_id, b"one")


def path_of(document: dict[str, Any], rest: str = "") -> str:
    return f"/v1/projects/{document['project_id']}/documents/{document['id']}{rest}"


async def add(caller: Caller, document: dict[str, Any], content: bytes, **options: Any) -> httpx.Response:
    return await caller("POST", path_of(document, "/versions"), content=content, **options)


async def listed(caller: Caller, document: dict[str, Any]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await caller("GET", path_of(document, "/versions"))).json()["items"]
    return items


async def test_a_version_is_added_listed_and_fetched(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID, document: dict[str, Any]
) -> None:
    editor = await admin.member(project_id, "editor")
    answer = await add(editor, document, b"twice", headers={"Content-Type": "Text/Markdown; charset=utf-8"})
    assert answer.status_code == 201, answer.text
    now = answer.json()
    assert now == {
        **document,
        "content_type": "text/markdown",
        "size": 5,
        "sha256": hashlib.sha256(b"twice").hexdigest(),
        "version": 2,
    }
    assert answer.headers["etag"] == '"2"'
    assert answer.headers["location"] == path_of(document, "/content?version=2")
    newest, oldest = await listed(admin, document)
    moment = newest.pop("created_at")
    assert newest == {
        "version": 2,
        "content_type": "text/markdown",
        "size": 5,
        "sha256": now["sha256"],
        "uploaded_by": str(editor.user_id),
    }
    assert oldest == {
        "version": 1,
        "content_type": "text/plain",
        "size": 3,
        "sha256": document["sha256"],
        "uploaded_by": str(admin.user_id),
        "created_at": document["created_at"],
    }
    assert moment > oldest["created_at"]
    for params, content in (({"version": 1}, b"one"), ({"version": 2}, b"twice"), ({}, b"twice")):
        got = await admin("GET", path_of(document, "/content"), params=params)
        assert (got.status_code, got.content) == (200, content)
        assert got.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
        assert got.headers["content-disposition"].startswith('attachment; filename="note.txt"')
    part = await admin("GET", path_of(document, "/content?version=1"), headers={"Range": "bytes=1-"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"ne", "bytes 1-2/3")
    assert part.headers["content-type"] == "text/plain"
    for number, expected in (
        (3, (404, "not_found")),
        (0, (422, "validation_failed")),
        (2**31, (422, "validation_failed")),
    ):
        assert code(await admin("GET", path_of(document, f"/content?version={number}"))) == expected
    last = (await events(database, tenant_id))[-1]
    assert (last.type, last.sequence) == ("projects.document.uploaded.v1", 2)
    assert (last.data["version"], last.data["sha256"], last.data["created_at"]) == (2, now["sha256"], now["created_at"])


async def test_a_form_is_a_version_too_and_keeps_the_name(admin: Caller, document: dict[str, Any]) -> None:
    answer = await admin(
        "POST",
        path_of(document, "/versions"),
        files={"file": ("other.md", b"twice", "text/markdown")},
        data={"metadata": '{"n": 2}'},
    )
    assert answer.status_code == 201
    now = answer.json()
    assert (now["name"], now["metadata"], now["content_type"]) == ("note.txt", {"n": 2}, "text/markdown")
    assert answer.headers["etag"] == '"3"'
    assert code(await add(admin, document, b"")) == (422, "empty_document")


async def test_lists_are_cut_into_pages(admin: Caller, document: dict[str, Any]) -> None:
    for n in range(4):
        assert (await add(admin, document, b"%d" % n)).status_code == 201
    seen: list[int] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        page = (await admin("GET", path_of(document, "/versions"), params=params)).json()
        seen += [item["version"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == [5, 4, 3, 2, 1]
    other = (await admin("GET", "/v1/projects", params={"limit": 1})).json()
    foreign = (
        other["next_cursor"]
        or "WyIyMDI2LTAxLTAxVDAwOjAwOjAwKzAwOjAwIiwgImZmZmZmZmZmLWZmZmYtZmZmZi1mZmZmLWZmZmZmZmZmZmZmZiJd"
    )
    for cursor in (foreign, "x"):
        answer = await admin("GET", path_of(document, "/versions"), params={"cursor": cursor})
        assert code(answer) == (400, "invalid_cursor")


async def test_the_condition_of_a_new_version_is_checked_before_and_after_its_bytes(
    admin: Caller, document: dict[str, Any], tenant_id: uuid.UUID, blob_root: Path
) -> None:
    stale = (412, "precondition_failed")
    assert code(await add(admin, document, b"x", headers={"If-Match": '"9"'})) == stale

    async def slow() -> Any:
        yield b"x"
        assert (await admin("PATCH", path_of(document), json={"name": "b.txt"})).status_code == 200
        yield b"y"

    assert (
        code(await admin("POST", path_of(document, "/versions"), content=slow(), headers={"If-Match": '"1"'})) == stale
    )
    assert len(blobs_of(blob_root, tenant_id)) == 1
    assert (await add(admin, document, b"x", headers={"If-Match": '"2"'})).status_code == 201
    assert code(await admin("POST", path_of(document, "/versions/1/restore"), headers={"If-Match": '"2"'})) == stale


async def test_an_old_version_is_restored_as_a_new_one_without_its_bytes_being_copied(
    admin: Caller,
    database: Database,
    tenant_id: uuid.UUID,
    document: dict[str, Any],
    blob_root: Path,
) -> None:
    await add(admin, document, b"twice")
    answer = await admin("POST", path_of(document, "/versions/1/restore"))
    assert answer.status_code == 201
    now = answer.json()
    assert (now["version"], now["sha256"], now["content_type"]) == (3, document["sha256"], "text/plain")
    assert len(blobs_of(blob_root, tenant_id)) == 2
    assert (await admin("GET", path_of(document, "/content"))).content == b"one"
    assert code(await admin("POST", path_of(document, "/versions/3/restore"))) == (409, "newest_version")
    assert code(await admin("POST", path_of(document, "/versions/4/restore"))) == (404, "not_found")
    assert (await announced(database, tenant_id))[-1] == ("document.uploaded", 3)
    assert (await admin("DELETE", path_of(document))).status_code == 204

    async def gone() -> bool:
        return blobs_of(blob_root, tenant_id) == []

    await eventually(gone)
    async with database.tenant(tenant_id) as session:
        assert await session.scalar(select(func.count(DocumentVersion.number))) == 0
    for rest in ("/versions", "/content?version=1"):
        assert code(await admin("GET", path_of(document, rest))) == (404, "not_found")


async def test_a_version_that_is_not_allowed_is_refused_before_its_bytes(
    admin: Caller, project_id: uuid.UUID, document: dict[str, Any]
) -> None:
    asked_for: list[int] = []

    async def body() -> Any:
        asked_for.append(1)
        yield b"x"

    viewer = await admin.member(project_id, "viewer")
    assert code(await viewer("POST", path_of(document, "/versions"), content=body())) == (403, "forbidden")
    assert asked_for == []


async def test_versions_are_those_of_one_document(
    admin: Caller, project_id: uuid.UUID, document: dict[str, Any]
) -> None:
    other = await admin.uploaded(project_id, b"other")
    for _ in range(2):
        await add(admin, other, b"others")
    assert [item["version"] for item in await listed(admin, document)] == [1]
    await add(admin, document, b"twice")
    own = await listed(admin, document)
    assert [item["version"] for item in own] == [2, 1]
    assert own[1]["sha256"] == document["sha256"]
    assert code(await admin("GET", path_of(document, "/content?version=3"))) == (404, "not_found")
    for one, content in ((document, b"one"), (other, b"other")):
        assert (await admin("GET", path_of(one, "/content?version=1"))).content == content
    await admin("DELETE", path_of(document))
    assert [item["version"] for item in await listed(admin, other)] == [3, 2, 1]


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
async def test_the_live_version_stays_until_the_new_one_is_indexed(
    admin: Caller, database: Database, tenant_id: uuid.UUID, document: dict[str, Any], outcome: str
) -> None:
    await Job(database, tenant_id, document).tells(JobCompleted, 2, chunk_count=7, title="Tides")
    before = await shown(admin, document)
    assert before["live_version"] == 1
    now = (await add(admin, document, b"twice")).json()
    known = {name: before[name] for name in ("live_version", "chunk_count", "title", "indexed_at")}
    assert now["status"] == "queued"
    job = Job(database, tenant_id, document, version=2)
    if outcome == "failed":
        await job.tells(JobFailed, 2, code="corrupt_pdf", reason="The PDF is damaged.", attempts=1)
    else:
        await job.tells(JobCancelled, 2)
    now = await shown(admin, document)
    assert (now["version"], now["status"]) == (2, outcome)
    assert {name: now[name] for name in known} == known
    assert (await admin("POST", path_of(document, "/retry"))).status_code == 202
    await job.tells(JobCompleted, 4, chunk_count=1)
    now = await shown(admin, document)
    assert (now["status"], now["live_version"], now["chunk_count"], now["title"]) == ("indexed", 2, 1, None)


async def test_a_version_that_was_replaced_while_its_job_ended_is_the_live_one(
    admin: Caller, database: Database, tenant_id: uuid.UUID, document: dict[str, Any]
) -> None:
    first = Job(database, tenant_id, document)
    await add(admin, document, b"twice")
    await first.tells(JobCompleted, 2, chunk_count=7)
    now = await shown(admin, document)
    assert (now["status"], now["version"], now["live_version"], now["chunk_count"]) == ("queued", 2, 1, 7)
    await Job(database, tenant_id, document, version=2).tells(JobCompleted, 2, chunk_count=1)
    await first.tells(JobCompleted, 3, chunk_count=7)
    now = await shown(admin, document)
    assert (now["status"], now["live_version"], now["chunk_count"]) == ("indexed", 2, 1)


async def test_versions_added_at_once_are_numbered_without_a_gap(admin: Caller, document: dict[str, Any]) -> None:
    answers = await asyncio.gather(*(add(admin, document, b"%d" % n) for n in range(6)))
    assert sorted(answer.json()["version"] for answer in answers) == [2, 3, 4, 5, 6, 7]
    assert [item["version"] for item in await listed(admin, document)] == [7, 6, 5, 4, 3, 2, 1]


async def test_a_document_has_so_many_versions(
    admin: Caller, document: dict[str, Any], tenant_id: uuid.UUID, blob_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "MOST_VERSIONS", 2)
    assert (await add(admin, document, b"two")).status_code == 201
    assert code(await add(admin, document, b"three")) == (409, "too_many_versions")
    assert code(await admin("POST", path_of(document, "/versions/1/restore"))) == (409, "too_many_versions")
    assert len(blobs_of(blob_root, tenant_id)) == 2


async def test_every_version_counts_against_the_quotas(
    admin: Caller, database: Database, tenant_id: uuid.UUID, document: dict[str, Any]
) -> None:
    await add(admin, document, b"twice")
    await admin("POST", path_of(document, "/versions/1/restore"))
    assert await usage(database, tenant_id) == (1, 3, 11)
    link = await admin.uploaded(uuid.UUID(document["project_id"]), b"one", duplicates="link")
    assert link["linked"]
    assert await usage(database, tenant_id) == (1, 4, 14)
    await admin("DELETE", path_of(document))
    assert await usage(database, tenant_id) == (1, 1, 3)


async def test_what_a_crash_leaves_of_a_version_is_kept_if_it_was_committed(
    admin: Caller,
    database: Database,
    blobs: BlobStore,
    document: dict[str, Any],
    tenant_id: uuid.UUID,
    blob_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def crash(_: BlobKey) -> None:
        return

    with monkeypatch.context() as patch:
        patch.setattr(blobs, "keep", crash)
        await add(admin, document, b"replaced")
        await add(admin, document, b"precious")
    left = [path for path in blobs_of(blob_root, tenant_id) if path.parent.name == "incoming"]
    assert len(left) == 2
    unclaimed = BlobKey.of_upload(tenant_id, uuid.UUID(document["project_id"]), uuid.uuid4())
    (blob_root / "incoming" / unclaimed.incoming_name).write_bytes(b"x")
    for _ in range(2):
        await cleaning.settle_leftovers(database, blobs, older_than=NOW)
        for number, content in ((2, b"replaced"), (3, b"precious")):
            got = await admin("GET", path_of(document, f"/content?version={number}"))
            assert got.content == content
    assert [path for path in blobs_of(blob_root, tenant_id) if path.parent.name == "incoming"] == []
    assert len(blobs_of(blob_root, tenant_id)) == 3


async def test_versions_go_with_their_tenant(
    admin: Caller, database: Database, tenant_id: uuid.UUID, document: dict[str, Any], blob_root: Path
) -> None:
    await add(admin, document, b"twice")
    await delete_tenant(database, tenant_id)

    async def gone() -> bool:
        async with database.tenant(tenant_id) as session:
            rows = await session.scalar(select(func.count(DocumentVersion.number)))
        return rows == 0 and blobs_of(blob_root, tenant_id) == []

    await eventually(gone)


async def test_a_version_never_changes(
    admin: Caller, database: Database, tenant_id: uuid.UUID, document: dict[str, Any]
) -> None:
    await add(admin, document, b"twice")
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with database.tenant(tenant_id) as session:
            (await session.scalars(select(DocumentVersion))).one().size = 9
            await session.flush()
