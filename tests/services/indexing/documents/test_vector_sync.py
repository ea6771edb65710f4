"""Pending changes reach the vector store, whatever stands in between."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from services.indexing import tenant_turns
from services.indexing.agents.runs.models import Run, RunDocument
from services.indexing.documents import repository, vector_sync
from services.indexing.documents.models import Chunk, VectorChange
from services.indexing.generations.models import GenerationDocument
from services.indexing.jobs.models import Job
from services.indexing.search.dependencies import SearchResources
from services.indexing.vectors import batched_operations
from services.indexing.vectors.errors import VectorStoreUnavailable
from services.indexing.vectors.filters import MetadataCondition
from services.indexing.vectors.points import ChunkPoint, VectorQuery
from services.indexing.vectors.store import ProjectVectors, VectorStore
from services.indexing.work_priority import BackgroundWork
from shared.events.identity import TenantDeleted
from shared.outbox import OutboxEvent
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.uploads import Library
from tests.support.polling import eventually
from tests.support.serving import StartedApp

Running = tuple[StartedApp, httpx.AsyncClient]


@pytest.fixture
def store(running: Running) -> VectorStore:
    found: VectorStore = running[0].resources(SearchResources).search.store
    return found


def nothing_pending(library: Library) -> Callable[[], Awaitable[bool]]:
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

    async def unavailable(self: ProjectVectors, document_id: uuid.UUID, *, at_most: int) -> int:
        refused.append(document_id)
        raise VectorStoreUnavailable("down")

    async def was_refused() -> bool:
        return bool(refused)

    with monkeypatch.context() as patch:
        patch.setattr(ProjectVectors, "delete_document", unavailable)
        await library.delete(document_id)
        await eventually(was_refused)
        assert not await nothing_pending(library)()
    await eventually(nothing_pending(library), within=20)
    assert await store.project(library.tenant_id, library.project_id).count() == 0


async def test_a_deleted_tenant_is_removed_whole_and_no_other(
    store: VectorStore, library: Library, other_library: Library
) -> None:
    kept = await other_library.upload("text")
    await ends(other_library, kept)
    await ends(library, await library.upload("text"))
    await library.announce(TenantDeleted(tenant_id=library.tenant_id), sequence=1)
    await eventually(nothing_pending(library))
    assert await store.tenant(library.tenant_id).count() == 0
    assert await store.tenant(other_library.tenant_id).count() == 1


async def purges(library: Library, document_id: uuid.UUID) -> list[tuple[int, dict[str, Any]]]:
    """What was told of the document's end: sequence and counts."""
    async with library.database.tenant(library.tenant_id) as session:
        rows = await session.scalars(select(OutboxEvent).where(OutboxEvent.subject == str(document_id)))
        return [
            (row.sequence, {name: row.data[name] for name in ("points", "chunks", "batches")})
            for row in rows
            if row.type == "indexing.document.purged.v1"
        ]


async def test_the_end_of_a_document_is_told_once_with_what_was_removed(
    store: VectorStore, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id, linked = await library.upload("text"), uuid.uuid4()
    await ends(library, document_id)
    counts = store.project(library.tenant_id, library.project_id)

    async def told_of_both() -> bool:
        return bool(await purges(library, document_id) and await purges(library, linked))

    # A process that dies after the points are gone counts them all the same.
    died = list[int]()
    delete_document = ProjectVectors.delete_document

    async def die_once(self: ProjectVectors, its: uuid.UUID, *, at_most: int) -> int:
        removed = await delete_document(self, its, at_most=at_most)
        if its == document_id and not died:
            died.append(removed)
            raise VectorStoreUnavailable("died")
        return removed

    monkeypatch.setattr(ProjectVectors, "delete_document", die_once)
    await library.delete(document_id)
    await eventually(nothing_pending(library), within=20)
    await library.delete(linked)
    await eventually(told_of_both)
    await library.delete(document_id)
    await eventually(nothing_pending(library))
    assert await purges(library, document_id) == [(9, {"points": 1, "chunks": 1, "batches": 0})]
    assert await purges(library, linked) == [(9, {"points": 0, "chunks": 0, "batches": 0})]
    assert died == [1]
    assert await counts.count() == 0


@pytest.mark.parametrize("holder", ["job", "generation", "run"])
async def test_the_end_of_a_document_waits_for_who_still_holds_it(library: Library, holder: str) -> None:
    document_id, run_id = await library.upload("text"), uuid.uuid4()
    await ends(library, document_id)
    later = datetime.now(UTC) + timedelta(hours=1)
    about = {"project_id": library.project_id, "document_id": document_id}
    async with library.database.tenant(library.tenant_id) as session:
        if holder == "job":
            leased = {"state": "embedding", "lease_owner": "frozen", "lease_expires_at": later}
            held: Any = Job(**about, version=7, lane="interactive", cancel_requested=True, **leased)
        elif holder == "generation":
            held = GenerationDocument(**about, number=1, due_at=later)
        else:
            limits = {"seconds_limit": 1, "model_calls_limit": 1, "model_tokens_limit": 1}
            session.add(
                Run(id=run_id, project_id=library.project_id, principal={}, agent="a", agent_version=1, input={},
                    on_disconnect="continue", status="completed", **limits)
            )  # fmt: skip
            await session.flush()
            held = RunDocument(run_id=run_id, document_id=document_id)
        session.add(held)
    await library.delete(document_id)

    async def looked_at() -> bool:
        async with library.database.tenant(library.tenant_id) as session:
            changes = (await session.scalars(select(VectorChange))).all()
            chunks = (await session.scalars(select(Chunk))).all()
        return [change.attempts > 1 for change in changes] == [True] and not chunks

    await eventually(looked_at, within=20)
    assert await purges(library, document_id) == []
    async with library.database.tenant(library.tenant_id) as session:
        await session.delete(await session.merge(held))

    async def told() -> bool:
        return bool(await purges(library, document_id))

    await eventually(told, within=20)


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
        await repository.enqueue_vector_change(session, document_id)
        await repository.enqueue_vector_change(session, uuid.uuid4())
    await eventually(nothing_pending(library))
    assert [tally.version for tally in await project.tally(document_id)] == [1]


async def test_a_renamed_document_is_found_by_its_new_name_and_not_embedded_again(
    store: VectorStore, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = await library.upload("Granite built the wall.", name="harbour.txt")
    await ends(library, document_id)
    project = store.project(library.tenant_id, library.project_id)

    async def found(word: str) -> bool:
        return bool(await project.search(VectorQuery(mode="keyword", text=word)))

    async def is_found_by_the_new_name() -> bool:
        return await found("lighthouse")

    assert await found("harbour")
    upserted = list[object]()
    monkeypatch.setattr(ProjectVectors, "upsert", lambda _, points: upserted.append(points))
    await library.update(document_id, sequence=2, name="lighthouse.txt", metadata={})
    await eventually(is_found_by_the_new_name)
    assert not await found("harbour")
    assert await found("granite")
    assert not upserted


async def test_metadata_no_filter_can_hold_does_not_block_the_rest(store: VectorStore, library: Library) -> None:
    document_id = await library.upload("text")
    await ends(library, document_id)
    deep: dict[str, Any] = {"end": 1}
    for _ in range(40):
        deep = {"a": deep}
    await library.update(document_id, sequence=2, name="note.txt", metadata=deep)
    await eventually(nothing_pending(library))
    assert (await library.document(document_id)).attributes == deep


def stray(document_id: uuid.UUID, library_document: Any, index: int, *, version: int = 7) -> ChunkPoint:
    return ChunkPoint(
        document_id=document_id, version=version, chunk_index=index, vector=[1.0] * 384, text="stray",
        content_type="text/plain", created_at=library_document.created_at,
    )  # fmt: skip


@pytest.fixture
def in_pieces_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_sync, "PIECE", 2)
    monkeypatch.setattr(batched_operations, "SIZE", 2)


@pytest.mark.usefixtures("in_pieces_of_two")
async def test_a_large_document_is_changed_piece_by_piece_in_many_turns(
    store: VectorStore, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = await library.upload("text")
    await ends(library, document_id)
    document, project = await library.document(document_id), store.project(library.tenant_id, library.project_id)
    await project.upsert([stray(document_id, document, index) for index in range(20)])
    await project.upsert([stray(document_id, document, index, version=1) for index in range(1, 20)])
    turns, sizes, pieces = [], list[int](), list[BackgroundWork]()
    claim, delete, piece = tenant_turns.claim, ProjectVectors.delete_versions_except, BackgroundWork.piece

    async def claimed(*args: Any, **kwargs: Any) -> VectorChange | None:
        turns.append(await claim(*args, **kwargs))
        return turns[-1]

    async def counted(self: ProjectVectors, *args: Any, at_most: int) -> int:
        sizes.append(await delete(self, *args, at_most=at_most))
        return sizes[-1]

    def giving_way(self: BackgroundWork) -> AbstractAsyncContextManager[None]:
        pieces.append(self)
        return piece(self)

    monkeypatch.setattr(tenant_turns, "claim", claimed)
    monkeypatch.setattr(ProjectVectors, "delete_versions_except", counted)
    monkeypatch.setattr(BackgroundWork, "piece", giving_way)
    await library.update(document_id, sequence=2, name="note.txt", metadata={"lang": "fr"})
    await eventually(nothing_pending(library))
    assert sizes == [2] * 10 + [0]
    assert len([turn for turn in turns if isinstance(turn, VectorChange) and turn.document_id == document_id]) == 8
    assert len(pieces) == 22
    assert [(tally.version, tally.points) for tally in await project.tally(document_id)] == [(1, 19), (1, 1)]
    french = VectorQuery(
        mode="keyword", text="stray", limit=50, filter=MetadataCondition(field="metadata.lang", eq="fr")
    )
    assert {hit.chunk_index for hit in await project.search(french)} == set(range(1, 20))


async def hangs(reached: asyncio.Event, released: asyncio.Event) -> None:
    reached.set()
    await released.wait()


async def test_an_update_does_not_wait_for_points_that_are_being_changed_and_is_not_lost(
    store: VectorStore, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = await library.upload("text")
    await ends(library, document_id)
    reached, released = asyncio.Event(), asyncio.Event()
    described: list[Any] = []
    describe = ProjectVectors.set_metadata_after

    async def slow(
        self: ProjectVectors, after: Any, document: uuid.UUID, metadata: Any, **options: Any
    ) -> uuid.UUID | None:
        described.append(metadata)
        await hangs(reached, released)
        return await describe(self, after, document, metadata, **options)

    monkeypatch.setattr(ProjectVectors, "set_metadata_after", slow)
    await library.update(document_id, sequence=2, name="note.txt", metadata={"lang": "fr"})
    async with asyncio.timeout(10):
        await reached.wait()
        await library.update(document_id, sequence=3, name="note.txt", metadata={"lang": "de"})
    assert described == [{"lang": "fr"}]
    released.set()
    await eventually(nothing_pending(library))
    assert described[-1] == {"lang": "de"}


async def test_deleting_points_keeps_no_event_waiting(
    store: VectorStore, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = await library.upload("text")
    await ends(library, document_id)
    reached, released = asyncio.Event(), asyncio.Event()

    async def slow(self: ProjectVectors, *_: Any, at_most: int) -> int:
        await hangs(reached, released)
        return 0

    monkeypatch.setattr(ProjectVectors, "delete_versions_except", slow)
    await library.update(document_id, sequence=2, name="note.txt", metadata={"lang": "fr"})
    async with asyncio.timeout(10):
        await reached.wait()
        await library.update(document_id, sequence=3, name="note.txt", metadata={"lang": "de"})
        await library.delete(document_id)
    released.set()
    await eventually(nothing_pending(library))


async def test_a_change_that_hangs_delays_no_other_tenant(
    store: VectorStore, library: Library, other_library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = await library.upload("text"), await other_library.upload("text")
    await ends(library, stuck)
    await ends(other_library, other)
    reached, released = asyncio.Event(), asyncio.Event()
    delete = ProjectVectors.delete_document

    async def slow(self: ProjectVectors, document_id: uuid.UUID, *, at_most: int) -> int:
        if document_id == stuck:
            await hangs(reached, released)
        return await delete(self, document_id, at_most=at_most)

    monkeypatch.setattr(ProjectVectors, "delete_document", slow)
    await library.delete(stuck)
    async with asyncio.timeout(10):
        await reached.wait()
    await other_library.delete(other)
    await eventually(nothing_pending(other_library))
    assert not await nothing_pending(library)()
    released.set()
    await eventually(nothing_pending(library))


async def test_a_fault_of_one_change_ends_no_other(
    store: VectorStore, library: Library, other_library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, other = await library.upload("text"), await other_library.upload("text")
    await ends(library, broken)
    await ends(other_library, other)
    delete = ProjectVectors.delete_document

    async def failing(self: ProjectVectors, document_id: uuid.UUID, *, at_most: int) -> int:
        if document_id == broken:
            raise RuntimeError("a defect")
        return await delete(self, document_id, at_most=at_most)

    with monkeypatch.context() as patch:
        patch.setattr(ProjectVectors, "delete_document", failing)
        await library.delete(broken)
        await other_library.delete(other)
        await eventually(nothing_pending(other_library))
        assert not await nothing_pending(library)()
    await eventually(nothing_pending(library), within=20)
