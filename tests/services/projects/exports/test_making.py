"""Attempts that fail, exports that are gone meanwhile, and what is left on the disk."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from services.projects.blobs.store import BlobStore
from services.projects.documents import cleaning
from services.projects.exports import making, repository
from services.projects.exports.models import Export
from services.projects.tenants import repository as tenants
from shared.tenancy import Database
from tests.services.projects.blobs.files import blobs_of
from tests.services.projects.callers import Caller, code
from tests.services.projects.exports.exporting import EXPORTS, archive, ended, make_due, requested, rows
from tests.support.polling import eventually

PLACES = ("AFTER_BEGIN", "AFTER_DOCUMENT", "AFTER_SEAL", "BEFORE_KEEP")


class Place:
    """A failpoint of the first attempt: it stops there until `go`, and then fails if it is to. No other test leaves
    an export under way, which would be stopped instead."""

    def __init__(self, *, fails: bool = False) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        self._fails = fails

    async def reach(self) -> None:
        if self.reached.is_set():
            return
        self.reached.set()
        await self.go.wait()
        if self._fails:
            raise RuntimeError("killed")


@pytest.fixture
async def two_documents(admin: Caller, project_id: uuid.UUID) -> AsyncIterator[list[str]]:
    yield [(await admin.uploaded(project_id))["id"] for _ in range(2)]


async def only_documents_and(count: int, blob_root: Path, tenant_id: uuid.UUID, documents: int) -> None:
    """The tenant has the blobs of its documents and of so many exports, and nothing else."""

    async def settled() -> bool:
        return len(blobs_of(blob_root, tenant_id)) == documents + count

    await eventually(settled)


@pytest.mark.parametrize("place", PLACES)
async def test_an_attempt_that_fails_is_followed_by_a_whole_one(
    admin: Caller, database: Database, blobs: BlobStore, blob_root: Path, tenant_id: uuid.UUID, project_id: uuid.UUID,
    two_documents: list[str], monkeypatch: pytest.MonkeyPatch, place: str,
) -> None:  # fmt: skip
    stopped = Place(fails=True)
    monkeypatch.setattr(making, place, stopped)
    path = await requested(admin, project_id)
    await asyncio.wait_for(stopped.reached.wait(), 10)
    stopped.go.set()
    if place != "BEFORE_KEEP":
        await make_due(database, path)
    _, manifest = await archive(admin, path)
    assert manifest["counts"]["documents"] == 2
    await cleaning.settle_leftovers(database, blobs, older_than=timedelta(0))
    assert (await admin("GET", f"{path}/content")).status_code == 200
    await only_documents_and(1, blob_root, tenant_id, 2)
    (row,) = await rows(database, tenant_id)
    assert row.attempts == (1 if place == "BEFORE_KEEP" else 2)


@pytest.mark.parametrize("place", PLACES[:3])
async def test_who_has_lost_the_claim_writes_nothing(
    admin: Caller, database: Database, blob_root: Path, tenant_id: uuid.UUID, project_id: uuid.UUID,
    two_documents: list[str], monkeypatch: pytest.MonkeyPatch, place: str,
) -> None:  # fmt: skip
    """A process is frozen for longer than its claim, while another one makes the export."""
    frozen = Place()
    monkeypatch.setattr(making, place, frozen)
    path = await requested(admin, project_id)
    await asyncio.wait_for(frozen.reached.wait(), 10)
    await make_due(database, path)
    export = await ended(admin, path)
    frozen.go.set()
    await only_documents_and(1, blob_root, tenant_id, 2)
    assert await ended(admin, path) == export
    await archive(admin, path)


async def test_an_export_that_always_fails_is_given_up(
    admin: Caller, database: Database, blob_root: Path, tenant_id: uuid.UUID, project_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    stopped = Place(fails=True)
    monkeypatch.setattr(making, "AFTER_BEGIN", stopped)
    path = await requested(admin, project_id)
    await asyncio.wait_for(stopped.reached.wait(), 10)
    async with database.system() as session:
        await session.execute(update(Export).where(Export.tenant_id == tenant_id).values(attempts=10))
    await make_due(database, path)
    stopped.go.set()
    export = await ended(admin, path)
    assert (export["status"], export["error"], export["sha256"]) == ("failed", {"code": "export_failed"}, None)
    assert code(await admin("GET", f"{path}/content")) == (409, "export_not_ready")
    await only_documents_and(0, blob_root, tenant_id, 0)


async def test_one_export_of_a_tenant_at_a_time(
    admin: Caller, outsider: Caller, project_id: uuid.UUID, two_documents: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another tenant's export is made meanwhile; the content of one that is under way is not there yet."""
    stopped = Place()
    monkeypatch.setattr(making, "AFTER_DOCUMENT", stopped)
    path = await requested(admin, project_id)
    await asyncio.wait_for(stopped.reached.wait(), 10)
    refused = await admin("POST", EXPORTS, json={})
    assert code(refused) == (403, "quota_exceeded")
    assert refused.json()["quota"] == "exports_under_way"
    assert code(await admin("GET", f"{path}/content")) == (409, "export_not_ready")
    running = (await admin("GET", path)).json()
    assert (running["status"], running["progress"]["documents_total"]) == ("running", 2)
    await archive(outsider, await requested(outsider))
    stopped.go.set()
    await archive(admin, path)


async def test_a_document_deleted_before_its_turn_is_skipped_and_named(
    admin: Caller, project_id: uuid.UUID, two_documents: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = Place()
    monkeypatch.setattr(making, "AFTER_DOCUMENT", stopped)
    path = await requested(admin, project_id)
    await asyncio.wait_for(stopped.reached.wait(), 10)
    first, second = two_documents
    assert (await admin("DELETE", f"/v1/projects/{project_id}/documents/{second}")).status_code == 204
    stopped.go.set()
    opened, manifest = await archive(admin, path)
    (project,) = manifest["projects"]
    assert [document["id"] for document in project["documents"]] == [first]
    assert project["skipped"] == [{"id": second, "reason": "deleted"}]
    assert not [name for name in opened.namelist() if second in name]
    assert (await admin("GET", path)).json()["progress"]["documents_skipped"] == 1


async def test_a_document_deleted_while_it_is_read_is_skipped(
    admin: Caller, database: Database, blobs: BlobStore, tenant_id: uuid.UUID, project_id: uuid.UUID,
    two_documents: list[str], blob_root: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its row was read, and its bytes are gone when they are opened."""
    stopped = Place()
    monkeypatch.setattr(making, "AFTER_DOCUMENT", stopped)
    path = await requested(admin, project_id)
    await asyncio.wait_for(stopped.reached.wait(), 10)
    _, second = two_documents
    read = repository.document

    async def read_and_delete(session: Any, **which: uuid.UUID) -> Any:
        found = await read(session, **which)
        if found is not None:
            monkeypatch.setattr(repository, "document", read)
            deleted = await admin("DELETE", f"/v1/projects/{project_id}/documents/{second}")
            assert deleted.status_code == 204
            await blobs.remove(found[1][0].blob_key)
        return found

    monkeypatch.setattr(repository, "document", read_and_delete)
    stopped.go.set()
    _, manifest = await archive(admin, path)
    assert manifest["projects"][0]["skipped"] == [{"id": second, "reason": "deleted"}]


# --- the end ---------------------------------------------------------------------------------------------------------


async def removed(database: Database, blob_root: Path, tenant_id: uuid.UUID, documents: int) -> None:
    async def gone() -> bool:
        return not await rows(database, tenant_id)

    await eventually(gone)
    await only_documents_and(0, blob_root, tenant_id, documents)


@pytest.mark.parametrize("under_way", [False, True])
@pytest.mark.parametrize("how", ["export", "project"])
async def test_a_deleted_export_is_gone_with_its_bytes(
    admin: Caller, database: Database, blob_root: Path, tenant_id: uuid.UUID, project_id: uuid.UUID,
    two_documents: list[str], monkeypatch: pytest.MonkeyPatch, how: str, under_way: bool,
) -> None:  # fmt: skip
    stopped = Place()
    if under_way:
        monkeypatch.setattr(making, "AFTER_SEAL", stopped)
    path = await requested(admin, project_id)
    if under_way:
        await asyncio.wait_for(stopped.reached.wait(), 10)
    else:
        await ended(admin, path)
    gone = path if how == "export" else f"/v1/projects/{project_id}"
    assert (await admin("DELETE", gone, headers={"If-Match": "*"})).status_code == 204
    for answer in (await admin("GET", path), await admin("GET", f"{path}/content"), await admin("DELETE", path)):
        assert code(answer) == (404, "not_found")
    assert (await admin("GET", EXPORTS)).json()["items"] == []
    stopped.go.set()
    await removed(database, blob_root, tenant_id, 2)
    if how == "project":
        assert (await admin("POST", f"/v1/projects/{project_id}/restore")).status_code == 200
        assert code(await admin("GET", path)) == (404, "not_found")


async def test_an_export_expires(
    admin: Caller, database: Database, blob_root: Path, tenant_id: uuid.UUID, project_id: uuid.UUID,
    two_documents: list[str],
) -> None:  # fmt: skip
    path = await requested(admin, project_id)
    export = await ended(admin, path)
    assert export["expires_at"] > export["finished_at"]
    async with database.tenant(tenant_id) as session:
        await session.execute(update(Export).values(expires_at=Export.created_at))
    assert code(await admin("GET", f"{path}/content")) == (404, "not_found")
    await make_due(database, path)
    await removed(database, blob_root, tenant_id, 2)


async def test_exports_end_with_their_tenant(
    admin: Caller, database: Database, blob_root: Path, tenant_id: uuid.UUID, project_id: uuid.UUID,
    two_documents: list[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One that is finished, and one that is being made."""
    await ended(admin, await requested(admin, project_id))
    stopped = Place()
    monkeypatch.setattr(making, "AFTER_SEAL", stopped)
    await requested(admin)
    await asyncio.wait_for(stopped.reached.wait(), 10)
    async with database.tenant(tenant_id) as session:
        await tenants.tombstone(session)
    assert code(await admin("POST", EXPORTS, json={"project_id": str(project_id)})) in (
        (404, "not_found"),
        (403, "quota_exceeded"),
    )

    async def erased() -> bool:
        return not await rows(database, tenant_id)

    await eventually(erased)
    stopped.go.set()
    await only_documents_and(0, blob_root, tenant_id, 0)
