"""What the vector store is owed reaches it, whatever stands in between."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from services.indexing.documents import repository
from services.indexing.documents.models import VectorChange
from services.indexing.vectors.errors import VectorStoreUnavailable
from services.indexing.vectors.points import ChunkPoint
from services.indexing.vectors.store import ProjectVectors, VectorStore
from shared.events.identity import TenantDeleted
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.uploads import Library
from tests.support.polling import eventually

Running = tuple[FastAPI, httpx.AsyncClient]


@pytest.fixture
def store(running: Running) -> VectorStore:
    found: VectorStore = running[0].state.search.store
    return found


def owed_nothing(library: Library) -> Callable[[], Awaitable[bool]]:
    async def nothing() -> bool:
        async with library.database.tenant(library.tenant_id) as session:
            return (await session.scalars(select(VectorChange))).all() == []

    return nothing


async def test_a_store_that_is_away_is_asked_again(
    store: VectorStore, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = await library.upload("text")
    await ends(library, document_id)
    refused = []

    async def unavailable(self: ProjectVectors, document_id: uuid.UUID) -> int:
        refused.append(document_id)
        raise VectorStoreUnavailable("down")

    async def was_refused() -> bool:
        return bool(refused)

    with monkeypatch.context() as patch:
        patch.setattr(ProjectVectors, "delete_document", unavailable)
        await library.delete(document_id)
        await eventually(was_refused)
        assert not await owed_nothing(library)()
    await eventually(owed_nothing(library), within=20)
    assert await store.project(library.tenant_id, library.project_id).count() == 0


async def test_a_deleted_tenant_is_removed_whole_and_no_other(
    store: VectorStore, library: Library, other_library: Library
) -> None:
    kept = await other_library.upload("text")
    await ends(other_library, kept)
    await ends(library, await library.upload("text"))
    await library.announce(TenantDeleted(tenant_id=library.tenant_id), sequence=1)
    await eventually(owed_nothing(library))
    assert await store.tenant(library.tenant_id).count() == 0
    assert await store.tenant(other_library.tenant_id).count() == 1


async def test_points_of_versions_nobody_wants_are_removed_and_live_ones_stay(
    store: VectorStore, library: Library
) -> None:
    document_id = await library.upload("text")
    await ends(library, document_id)
    document = await library.document(document_id)
    project = store.project(library.tenant_id, library.project_id)
    stray = ChunkPoint(
        document_id=document_id, version=7, chunk_index=0, vector=[1.0] * 384, text="stray",
        content_type="text/plain", created_at=document.created_at,
    )  # fmt: skip
    await project.upsert([stray])
    async with library.database.tenant(library.tenant_id) as session:
        await repository.owe(session, document_id)
        await repository.owe(session, uuid.uuid4())
    await eventually(owed_nothing(library))
    assert [tally.version for tally in await project.tally(document_id)] == [1]


async def test_metadata_no_filter_can_hold_does_not_block_the_rest(store: VectorStore, library: Library) -> None:
    document_id = await library.upload("text")
    await ends(library, document_id)
    deep: dict[str, Any] = {"end": 1}
    for _ in range(40):
        deep = {"a": deep}
    await library.update(document_id, sequence=2, name="note.txt", metadata=deep)
    await eventually(owed_nothing(library))
    assert (await library.document(document_id)).attributes == deep
