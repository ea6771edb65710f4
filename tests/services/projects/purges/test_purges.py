"""The end of a deleted document is told once, when every store has told that it holds nothing more."""

import itertools
import uuid
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from sqlalchemy import select

from services.projects.documents.models import BlobDeletion
from services.projects.purges.models import DocumentPurge
from services.projects.purges.service import note_feed, note_index
from shared.events.indexing import IndexPurged
from shared.events.notifier import FeedPurged
from shared.tenancy import Database
from tests.services.projects.callers import Caller, events
from tests.support.polling import eventually

Store = Literal["blobs", "indexing", "notifier"]
ORDERS = list(itertools.permutations(("blobs", "indexing", "notifier")))


async def tell(database: Database, tenant_id: uuid.UUID, document: dict[str, Any], store: Store) -> None:
    """What a store tells; the running service's own cleaner settles blobs."""
    about = {"project_id": document["project_id"], "document_id": document["id"]}
    if store == "blobs":
        await eventually(lambda: settled(database, tenant_id))
        return
    async with database.tenant(tenant_id) as session:
        if store == "indexing":
            await note_index(session, IndexPurged.model_validate({**about, "points": 4, "chunks": 3, "batches": 1}))
        else:
            await note_feed(session, FeedPurged.model_validate({**about, "entries": 2}))


async def settled(database: Database, tenant_id: uuid.UUID) -> bool:
    async with database.tenant(tenant_id) as session:
        return (await session.scalars(select(BlobDeletion))).first() is None


async def receipts(database: Database, tenant_id: uuid.UUID, document: dict[str, Any]) -> list[tuple[int, Any]]:
    """The sequences of the document's receipts, and what each says was removed."""
    return [
        (envelope.sequence, envelope.data["removed"])
        for envelope in await events(database, tenant_id)
        if envelope.type == "projects.document.purged.v1" and envelope.subject == document["id"]
    ]


async def delete(admin: Caller, document: dict[str, Any]) -> None:
    path = f"/v1/projects/{document['project_id']}/documents/{document['id']}"
    assert (await admin("DELETE", path)).status_code == 204


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
async def test_the_receipt_comes_once_with_the_last_store_in_any_order(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID, order: Sequence[Store]
) -> None:
    document = await admin.uploaded(project_id, b"four")
    await delete(admin, document)
    for store in order:
        if store != "blobs":
            assert await receipts(database, tenant_id, document) == []
        await tell(database, tenant_id, document, store)
        await tell(database, tenant_id, document, store)
    expected = {
        "projects": {"versions": 1, "blobs": 1, "bytes": 4, "shared_blobs": 0},
        "indexing": {"points": 4, "chunks": 3, "batches": 1},
        "notifier": {"entries": 2},
    }
    assert await receipts(database, tenant_id, document) == [(3, expected)]


@pytest.mark.parametrize("missing", ["indexing", "notifier"])
async def test_there_is_no_receipt_before_every_service_has_told(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID, missing: Store
) -> None:
    document = await admin.uploaded(project_id)
    await delete(admin, document)
    for store in ("blobs", "indexing", "notifier"):
        if store != missing:
            await tell(database, tenant_id, document, store)
    assert await receipts(database, tenant_id, document) == []


async def test_there_is_no_receipt_before_the_bytes_are_gone(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    document = await admin.uploaded(project_id)
    async with database.tenant(tenant_id) as session:
        # Two blobs, as of two versions, one of which nobody settles.
        session.add(DocumentPurge(document_id=uuid.UUID(document["id"]), versions=2, blobs_waiting=1))
    for store in ("indexing", "notifier"):
        await tell(database, tenant_id, document, store)
    assert await receipts(database, tenant_id, document) == []


async def test_shared_bytes_count_for_the_last_document_that_has_them(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    first, link = [await admin.uploaded(project_id, b"same", duplicates="link") for _ in range(2)]
    counted = []
    for document in (first, link):
        await delete(admin, document)
        for store in ("blobs", "indexing", "notifier"):
            await tell(database, tenant_id, document, store)
        ((_, removed),) = await receipts(database, tenant_id, document)
        counted.append(removed["projects"])
    assert counted == [
        {"versions": 1, "blobs": 0, "bytes": 0, "shared_blobs": 1},
        {"versions": 1, "blobs": 1, "bytes": 4, "shared_blobs": 0},
    ]


async def test_what_is_told_of_a_living_unknown_or_foreign_document_changes_nothing(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    living, deleted = await admin.uploaded(project_id), await admin.uploaded(project_id)
    await delete(admin, deleted)
    await tell(database, tenant_id, deleted, "blobs")
    for store in ("indexing", "notifier"):
        await tell(database, tenant_id, living, store)
        await tell(database, tenant_id, {"project_id": str(project_id), "id": str(uuid.uuid4())}, store)
        await tell(database, uuid.uuid4(), deleted, store)
    assert await receipts(database, tenant_id, living) == await receipts(database, tenant_id, deleted) == []
