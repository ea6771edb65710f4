"""What unfinished uploads take up, and how they end without becoming a document."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from services.projects.blobs.store import BlobKey, BlobStore
from services.projects.dependencies import Resources
from services.projects.documents import cleaning
from services.projects.projects import repository as projects
from services.projects.projects.models import Project
from services.projects.tenants.models import TenantUsage
from services.projects.tenants.service import forget_tenant
from services.projects.uploads import expiry, repository
from services.projects.uploads.models import Upload, UploadExpiry
from services.projects.uploads.repository import EXPIRIES
from shared.events.identity import TenantDeleted
from shared.tenancy import Database
from shared.work_queue import ClaimLost
from tests.services.projects.blobs.files import blobs_of
from tests.services.projects.callers import Caller, code
from tests.services.projects.uploads.pieces import add, begin, begun, offset_of
from tests.support.letters import envelope_of
from tests.support.polling import eventually
from tests.support.resumable import TUS
from tests.support.serving import StartedApp


@pytest.fixture
async def small(app: StartedApp) -> AsyncIterator[None]:
    """Room for little."""
    before = app.resources(Resources)
    app.state["resources"] = replace(
        before, quotas=replace(before.quotas, projects=3, documents=4, bytes=100, uploads=2)
    )
    yield
    app.state["resources"] = before


async def usage(database: Database, tenant_id: uuid.UUID) -> tuple[int, int, int]:
    async with database.tenant(tenant_id) as session:
        row = (await session.scalars(select(TenantUsage))).one()
        return row.uploads, row.documents, row.bytes


async def count(database: Database, tenant_id: uuid.UUID) -> int:
    """Rows of uploads and of when they expire."""
    async with database.tenant(tenant_id) as session:
        uploads = await session.scalar(select(func.count(Upload.id)))
        expiries = await session.scalar(select(func.count(UploadExpiry.upload_id)))
    return (uploads or 0) + (expiries or 0)


def id_of(path: str) -> uuid.UUID:
    return uuid.UUID(path.rpartition("/")[2])


async def make_due(database: Database, tenant_id: uuid.UUID, path: str) -> None:
    async with database.tenant(tenant_id) as session:
        await session.execute(
            update(UploadExpiry).where(UploadExpiry.upload_id == id_of(path)).values(due_at=func.now())
        )


async def test_bytes_to_come_are_reserved_until_the_upload_is_over(
    admin: Caller, project_id: uuid.UUID, database: Database, tenant_id: uuid.UUID
) -> None:
    path = await begun(admin, project_id, 10)
    other = await begun(admin, project_id, 5)
    assert await usage(database, tenant_id) == (2, 0, 15)
    await add(admin, path, 0, b"1234")
    assert await usage(database, tenant_id) == (2, 0, 15)
    await add(admin, path, 4, b"567890")
    assert await usage(database, tenant_id) == (1, 1, 15)
    await admin("DELETE", other, headers=TUS)
    assert await usage(database, tenant_id) == (0, 1, 10)
    await admin("DELETE", path, headers=TUS)
    assert await usage(database, tenant_id) == (0, 1, 10)


async def test_bytes_of_an_unknown_number_are_reserved_as_they_come(
    admin: Caller, project_id: uuid.UUID, database: Database, tenant_id: uuid.UUID
) -> None:
    path = await begun(admin, project_id, None)
    assert await usage(database, tenant_id) == (1, 0, 0)
    await add(admin, path, 0, b"1234")
    assert await usage(database, tenant_id) == (1, 0, 4)
    await add(admin, path, 4, b"5", Upload_Length="10")
    assert await usage(database, tenant_id) == (1, 0, 10)
    await add(admin, path, 5, b"67890")
    assert await usage(database, tenant_id) == (0, 1, 10)


async def test_a_tenants_first_change_counts_the_uploads_that_there_are(
    admin: Caller, database: Database, tenant_id: uuid.UUID
) -> None:
    project = Project(name="Old", description="", custom_metadata={}, revision=1)
    facts = {"name": "a", "declared_type": "text/plain", "sent_metadata": "", "received": 3, "state": b""}
    async with database.tenant(tenant_id) as session:
        session.add(project)
        await session.flush()
        for length, document_id in ((10, None), (None, None), (3, uuid.uuid4())):
            upload = Upload(id=uuid.uuid4(), project_id=project.id, length=length, document_id=document_id, **facts)
            await repository.add(session, upload, lasting=timedelta(days=1))
    await admin.create_project()
    assert await usage(database, tenant_id) == (2, 0, 13)


@pytest.mark.usefixtures("small")
async def test_there_is_room_for_so_many_bytes_and_uploads(
    admin: Caller, project_id: uuid.UUID, database: Database, tenant_id: uuid.UUID
) -> None:
    refused = await begin(admin, project_id, 101)
    assert code(refused) == (403, "quota_exceeded")
    assert {name: refused.json()[name] for name in ("quota", "limit", "used")} == {
        "quota": "bytes",
        "limit": 100,
        "used": 0,
    }
    path = await begun(admin, project_id, 100)
    assert (await begin(admin, project_id, 1)).json()["used"] == 100
    # It takes the room that it has reserved.
    assert (await add(admin, path, 0, b"x" * 100)).status_code == 204
    assert await usage(database, tenant_id) == (0, 1, 100)


@pytest.mark.usefixtures("small")
async def test_only_so_many_may_be_unfinished(admin: Caller, project_id: uuid.UUID) -> None:
    answers = await asyncio.gather(*(begin(admin, project_id, 1) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201] * 2 + [403] * 4
    assert {answer.json()["quota"] for answer in answers if answer.status_code == 403} == {"uploads"}
    await admin("DELETE", next(a for a in answers if a.status_code == 201).headers["location"], headers=TUS)
    assert (await begin(admin, project_id, 1)).status_code == 201


@pytest.mark.usefixtures("small")
async def test_bytes_of_an_unknown_number_find_no_room_either(admin: Caller, project_id: uuid.UUID) -> None:
    path = await begun(admin, project_id, None)
    assert code(await add(admin, path, 0, b"x" * 101)) == (403, "quota_exceeded")

    async def unannounced() -> AsyncIterator[bytes]:
        yield b"x" * 101

    assert code(await add(admin, path, 0, unannounced())) == (403, "quota_exceeded")
    assert code(await add(admin, path, 0, b"x", Upload_Length="101")) == (403, "quota_exceeded")
    assert await offset_of(admin, path) == 0


async def test_an_upload_without_progress_expires_with_its_bytes(
    admin: Caller, project_id: uuid.UUID, database: Database, tenant_id: uuid.UUID, blob_root: Path
) -> None:
    path = await begun(admin, project_id, 10)
    await add(admin, path, 0, b"1234")
    assert len(blobs_of(blob_root, tenant_id)) == 1
    await make_due(database, tenant_id, path)

    async def gone() -> bool:
        return await count(database, tenant_id) == 0 and blobs_of(blob_root, tenant_id) == []

    await eventually(gone)
    assert await usage(database, tenant_id) == (0, 0, 0)
    assert (await admin("HEAD", path, headers=TUS)).status_code == 404


async def test_the_document_of_a_finished_upload_outlives_it(
    admin: Caller, project_id: uuid.UUID, database: Database, tenant_id: uuid.UUID
) -> None:
    answer = await begin(admin, project_id, 4, b"1234")
    await make_due(database, tenant_id, answer.headers["location"])

    async def gone() -> bool:
        return await count(database, tenant_id) == 0

    await eventually(gone)
    content = f"/v1/projects/{project_id}/documents/{answer.headers['quarry-document-id']}/content"
    assert (await admin("GET", content)).content == b"1234"
    assert await usage(database, tenant_id) == (0, 1, 4)


async def test_progress_takes_an_upload_from_who_removes_it(
    admin: Caller, project_id: uuid.UUID, database: Database, tenant_id: uuid.UUID
) -> None:
    path = await begun(admin, project_id, 10)
    async with database.tenant(tenant_id) as session:
        due = (await session.scalars(select(UploadExpiry))).one()
        await EXPIRIES.renew(session, due)
    before = (await admin("GET", path)).json()["expires_at"]
    await add(admin, path, 0, b"1234")
    assert (await admin("GET", path)).json()["expires_at"] > before
    with pytest.raises(ClaimLost):
        await expiry._remove(database, due)
    assert await offset_of(admin, path) == 4


async def test_a_sweep_leaves_what_may_go_on_and_removes_what_no_row_knows(
    admin: Caller,
    project_id: uuid.UUID,
    database: Database,
    tenant_id: uuid.UUID,
    blobs: BlobStore,
    blob_root: Path,
) -> None:
    path = await begun(admin, project_id, 10)
    await add(admin, path, 0, b"1234")
    orphan = BlobKey.of_upload(tenant_id, project_id, uuid.uuid4())
    async with blobs.receive(orphan) as blob:
        await blob.suspend()
    for file in blobs_of(blob_root, tenant_id):
        os.utime(file, (0, 0))
    assert len(blobs_of(blob_root, tenant_id)) == 2
    await cleaning.settle_leftovers(database, blobs, older_than=timedelta(hours=1))
    (left,) = blobs_of(blob_root, tenant_id)
    assert str(id_of(path)) in left.name
    assert "quarry-document-id" in (await add(admin, path, 4, b"567890")).headers


async def test_uploads_end_with_their_project(
    admin: Caller, project_id: uuid.UUID, database: Database, tenant_id: uuid.UUID, blob_root: Path
) -> None:
    path = await begun(admin, project_id, 10)
    tag = (await admin("GET", f"/v1/projects/{project_id}")).headers["etag"]
    assert (await admin("DELETE", f"/v1/projects/{project_id}", headers={"If-Match": tag})).status_code == 204
    assert (await admin("HEAD", path, headers=TUS)).status_code == 404

    async def gone() -> bool:
        return await count(database, tenant_id) == 0 and blobs_of(blob_root, tenant_id) == []

    await eventually(gone)


async def test_uploads_end_with_their_tenant(
    admin: Caller, project_id: uuid.UUID, database: Database, tenant_id: uuid.UUID, blob_root: Path
) -> None:
    path = await begun(admin, project_id, 10)
    await begin(admin, project_id, 4, b"1234")
    event = TenantDeleted(tenant_id=tenant_id)
    async with database.tenant(tenant_id) as session:
        await forget_tenant(session, event, envelope_of(event, tenant_id))

    async def gone() -> bool:
        return await count(database, tenant_id) == 0 and blobs_of(blob_root, tenant_id) == []

    await eventually(gone, within=10)
    assert (await add(admin, path, 0, b"1234")).status_code == 404
    assert code(await begin(admin, project_id, 3)) == (404, "not_found")
    assert blobs_of(blob_root, tenant_id) == []


async def test_nothing_of_a_creation_without_room_is_left(
    admin: Caller, app: StartedApp, project_id: uuid.UUID, blob_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def enough(*_: object, **__: object) -> None:
        pass

    before = app.resources(Resources)
    app.state["resources"] = replace(before, quotas=replace(before.quotas, projects=3, documents=4, bytes=5, uploads=2))
    monkeypatch.setattr("services.projects.tenants.service.expect_room", enough)
    try:
        assert code(await begin(admin, project_id, 10)) == (403, "quota_exceeded")
    finally:
        app.state["resources"] = before
    assert admin.tenant_id is not None
    assert blobs_of(blob_root, admin.tenant_id) == []


async def test_another_tenants_rows_do_not_exist(
    admin: Caller, outsider: Caller, project_id: uuid.UUID, database: Database
) -> None:
    path = await begun(admin, project_id, 10)
    assert outsider.tenant_id is not None
    async with database.tenant(outsider.tenant_id) as session:
        assert await repository.locked(session, upload_id=id_of(path)) is None
        assert await repository.unfinished(session, [id_of(path)]) == set()
        await projects.end_uploads(session, project_id=project_id)
    assert datetime.fromisoformat((await admin("GET", path)).json()["expires_at"]) > datetime.now(UTC)
    assert await offset_of(admin, path) == 0
