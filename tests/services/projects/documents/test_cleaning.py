import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import SQLAlchemyError

from services.projects.blobs import filesystem
from services.projects.blobs.store import BlobKey, BlobStore, StorageUnavailable
from services.projects.documents import cleaning
from services.projects.documents.models import BlobDeletion, Document
from services.projects.documents.repository import BLOB_DELETIONS
from shared.tenancy import Database
from tests.services.projects.callers import Caller
from tests.support.polling import eventually

NOW = timedelta(0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[BlobStore]:
    async with filesystem.open_store(tmp_path, 2) as made:
        yield made


@pytest.fixture
async def deletion(database: Database, store: BlobStore, tenant_id: uuid.UUID) -> BlobKey:
    """A blob of a store of its own, due for removal in an hour, so that only the test sees to it."""
    key = BlobKey(tenant_id, uuid.uuid4(), uuid.uuid4(), 1)
    async with store.receive(key) as blob:
        await blob.write(b"x")
        await blob.seal()
        await blob.keep()
    async with database.tenant(tenant_id) as session:
        values: dict[str, Any] = {"project_id": key.project_id, "document_id": key.document_id}
        session.add(BlobDeletion(**values, version=1, attempts=0, due_at=datetime.now(UTC) + timedelta(hours=1)))
    return key


async def waiting(database: Database, tenant_id: uuid.UUID) -> list[BlobDeletion]:
    async with database.tenant(tenant_id) as session:
        return list(await session.scalars(select(BlobDeletion)))


async def make_due(database: Database, key: BlobKey) -> None:
    async with database.system() as session:
        await session.execute(
            update(BlobDeletion)
            .where(BlobDeletion.document_id == key.document_id)
            .values(due_at=datetime.now(UTC) - timedelta(seconds=1))
        )


async def test_a_removal_that_fails_is_tried_again_later(
    database: Database,
    store: BlobStore,
    tenant_id: uuid.UUID,
    deletion: BlobKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(_: BlobKey) -> None:
        raise StorageUnavailable

    (row,) = await waiting(database, tenant_id)
    with monkeypatch.context() as patch:
        patch.setattr(store, "remove", fail)
        for attempts, seconds in ((1, 2), (2, 4), (3, 8), (100, 3600)):
            row.attempts = attempts
            before = datetime.now(UTC)
            with pytest.raises(StorageUnavailable):
                await BLOB_DELETIONS.work_on(database, row, partial(cleaning.remove, database, store))
            (row,) = await waiting(database, tenant_id)
            assert abs(row.due_at - before - timedelta(seconds=seconds)) < timedelta(seconds=1)
    await cleaning.remove(database, store, row)
    assert not (tmp_path / deletion.path).exists()
    assert await waiting(database, tenant_id) == []


async def test_a_deletion_is_forgotten_once_the_blob_is_gone(
    database: Database, tenant_id: uuid.UUID, deletion: BlobKey
) -> None:
    """By the running service's own cleaner, which finds nothing to remove in its store."""
    assert len(await waiting(database, tenant_id)) == 1
    await make_due(database, deletion)

    async def gone() -> bool:
        return not await waiting(database, tenant_id)

    await eventually(gone)


async def test_the_cleaner_outlives_failures(
    database: Database, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    errors = [SQLAlchemyError("away"), OSError("away"), StorageUnavailable()]

    async def fail(*_: object) -> bool:
        nonlocal calls
        calls += 1
        raise errors[calls % len(errors)]

    monkeypatch.setattr(cleaning, "remove_next", fail)
    task = asyncio.create_task(cleaning.run(database, store, every_seconds=0.001))

    async def several() -> bool:
        return calls > 6

    await eventually(several)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])


async def test_a_crash_after_the_commit_loses_nothing(
    admin: Caller,
    database: Database,
    blobs: BlobStore,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    blob_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process ends between the commit and moving the blob: reading works at once, and cleaning moves it."""

    async def crash(_: BlobKey) -> None:
        return

    with monkeypatch.context() as patch:
        patch.setattr(blobs, "keep", crash)
        document = await admin.uploaded(project_id, b"precious")
    key = BlobKey(tenant_id, project_id, uuid.UUID(document["id"]), 1)
    left = blob_root / "incoming" / key.incoming_name
    path = f"/v1/projects/{project_id}/documents/{document['id']}"
    assert left.exists()
    assert (await admin("GET", f"{path}/content")).content == b"precious"
    await cleaning.settle_leftovers(database, blobs, older_than=NOW)
    assert not left.exists()
    assert (blob_root / key.path).read_bytes() == b"precious"
    assert (await admin("GET", f"{path}/content")).content == b"precious"


async def test_a_crash_before_the_commit_leaves_nothing_for_long(
    database: Database, blobs: BlobStore, tenant_id: uuid.UUID, blob_root: Path
) -> None:
    key = BlobKey(tenant_id, uuid.uuid4(), uuid.uuid4(), 1)
    sealed = blob_root / "incoming" / key.incoming_name
    part = sealed.with_name(f"{sealed.name}.part")
    for path in (sealed, part):
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    assert await cleaning.settle_leftovers(database, blobs, older_than=cleaning.LEFTOVER_AGE) >= 1
    assert not sealed.exists()
    assert not part.exists()


async def test_a_commit_whose_answer_was_lost_keeps_its_bytes(
    admin: Caller,
    database: Database,
    blobs: BlobStore,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client gets a 503, the row may be there: then so are the bytes."""

    async def lose_the_answer(_: BlobKey) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr(blobs, "keep", lose_the_answer)
        assert (await admin.upload(project_id, b"precious")).status_code == 503
    async with database.tenant(tenant_id) as session:
        assert await session.scalar(select(func.count(Document.id))) == 1
    (item,) = (await admin("GET", f"/v1/projects/{project_id}/documents")).json()["items"]
    answer = await admin("GET", f"/v1/projects/{project_id}/documents/{item['id']}/content")
    assert answer.content == b"precious"


async def test_a_deleted_document_is_not_brought_back_by_its_left_over_bytes(
    admin: Caller,
    database: Database,
    blobs: BlobStore,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    blob_root: Path,
) -> None:
    document = await admin.uploaded(project_id, b"gone")
    key = BlobKey(tenant_id, project_id, uuid.UUID(document["id"]), 1)
    await admin("DELETE", f"/v1/projects/{project_id}/documents/{document['id']}")

    async def removed() -> bool:
        return not (blob_root / key.path).exists()

    await eventually(removed)
    left = blob_root / "incoming" / key.incoming_name
    left.write_bytes(b"gone")
    await cleaning.settle_leftovers(database, blobs, older_than=NOW)
    assert not left.exists()
    assert await removed()
