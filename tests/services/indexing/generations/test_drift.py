"""Points that differ from the chunks in Postgres are found and made again, up to all of them."""

import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from services.indexing.embedders.errors import EmbedderUnavailable
from services.indexing.embedders.minilm import MiniLM
from services.indexing.generations import steps
from services.indexing.vectors.points import ChunkPoint
from services.indexing.vectors.scoped_filters import equals
from services.indexing.vectors.store import ProjectVectors, VectorStore
from shared.tenancy import Database
from tests.services.indexing.generations.conftest import Project, make_due
from tests.services.indexing.jobs.test_worker import ends
from tests.support.polling import eventually

PerGeneration = Callable[[], Awaitable[dict[int, int]]]


async def checked(project: Project, database: Database) -> None:
    """The active generation is compared now, and what differs is made again."""
    began = datetime.now(UTC)
    await make_due(database, project.library)

    async def compared() -> bool:
        (row,) = [row for row in (await project.library.generations()).values() if row.state == "active"]
        return row.checked_at is not None and row.checked_at > began

    await eventually(compared, within=30)
    await project.settled()


def stray(document_id: uuid.UUID, *, generation: int = 2, version: int = 1, index: int = 0) -> ChunkPoint:
    return ChunkPoint(
        document_id=document_id, version=version, chunk_index=index, generation=generation, vector=[1.0] * 384,
        text="stray", content_type="text/plain", created_at=datetime.now(UTC),
    )  # fmt: skip


async def test_a_store_that_lost_everything_gets_it_back(
    project: Project, database: Database, store: VectorStore, per_generation: PerGeneration
) -> None:
    await project.fill(12)
    before = await project.answers()
    await store.wipe()
    assert not any((await project.answers()).values())
    await checked(project, database)
    assert await project.answers() == before
    assert await per_generation() == {2: 12}


async def test_some_that_are_missing_are_made_again_and_no_others(
    project: Project, database: Database, vectors: ProjectVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = await project.fill(6)
    before = await project.answers()
    await vectors.delete_document(documents[2])
    embedded, embed = [], MiniLM.embed

    async def counted(self: MiniLM, texts: Any, **how: Any) -> Any:
        embedded.extend(texts)
        return await embed(self, texts, **how)

    monkeypatch.setattr(MiniLM, "embed", counted)
    await checked(project, database)
    assert len(embedded) == 1
    assert await project.answers() == before


async def test_a_long_document_is_compared_and_written_in_pieces(
    project: Project, database: Database, vectors: ProjectVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n\n".join(f"Paragraph number {n} tells of stones. " * 25 for n in range(80))
    document_id = await project.library.upload(text)
    await ends(project.library, document_id, within=60)
    points = await vectors.count(document_id)
    assert points > 64
    await vectors._delete(equals("document_id", document_id), equals("chunk_index", 40))
    assert await vectors.count(document_id) == points - 1
    monkeypatch.setattr(steps, "_IDS", 16)
    await checked(project, database)
    assert await vectors.count(document_id) == points


async def test_points_that_belong_to_nothing_are_removed(
    project: Project, database: Database, vectors: ProjectVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    (document_id,) = await project.fill(1)
    monkeypatch.setattr(steps, "_POINTS", 3)
    await vectors.upsert(
        [
            *(stray(document_id, version=7, index=index) for index in range(4)),
            *(stray(document_id, generation=99, index=index) for index in range(5)),
            *(stray(uuid.uuid4()) for _ in range(3)),
        ]
    )
    await checked(project, database)
    await checked(project, database)
    assert [(tally.document_id, tally.generation, tally.version) for tally in await vectors.tally()] == [
        (document_id, 2, 1)
    ]


async def test_what_fails_is_told_and_goes_on(
    project: Project, database: Database, store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await project.fill(2)
    before = await project.answers()
    await store.wipe()

    async def away(self: MiniLM, texts: Any, **how: Any) -> Any:
        raise EmbedderUnavailable("the endpoint says: secret words")

    async def told() -> str | None:
        return (await project.library.generations())[2].error

    with monkeypatch.context() as patch:
        patch.setattr(MiniLM, "embed", away)
        await make_due(database, project.library)
        assert await eventually(told) == "the endpoint says: secret words"
        # Clients are not told in its own words.
        assert (await project.call("GET", "reindex/2")).json()["error"] == "The last step failed; it is tried again."

    async def found() -> bool:
        return await project.answers() == before

    await eventually(found, within=30)
    assert await told() is None


async def test_an_operator_asks_for_a_new_generation(project: Project, database: Database) -> None:
    await project.fill(2)
    await make_due(database, project.library, requested="outdated")
    await checked(project, database)
    assert await project.states() == {2: "active"}
    await make_due(database, project.library, requested="always")
    await project.becomes({3: "active", 2: "kept"})
    await make_due(database, project.library, requested="rollback")
    await project.becomes({2: "active", 3: "kept"})
