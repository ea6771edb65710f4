"""Documents that take long, beside others, with the whole service running."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import pytest

from services.indexing.embedders import Vectors
from services.indexing.embedders.minilm import MiniLM
from services.indexing.jobs import service, worker_places
from services.indexing.pipeline import stages
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.uploads import Library
from tests.support.polling import eventually

pytestmark = pytest.mark.usefixtures("running")

BOOK = "\n\n".join(f"Chapter {number}. " + "Granite from the quarry. " * 40 for number in range(12))


class Gate:
    """Chunks of long documents are embedded from when it is opened on, or a few of them."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked: list[object] = []

    def put_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        embed = MiniLM.embed

        async def gated(model: MiniLM, texts: Sequence[str], *, caller: Any, background: bool = False) -> Vectors:
            if background:
                self.asked.append(caller)
                await self.open.wait()
            return await embed(model, texts, caller=caller, background=background)

        monkeypatch.setattr(MiniLM, "embed", gated)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    monkeypatch.setattr(stages, "_SHORT_CHUNKS", 4)
    gate = Gate()
    gate.put_before(monkeypatch)
    return gate


async def _long(library: Library, document_id: uuid.UUID, state: str) -> bool:
    job = await library.job(document_id)
    return job.state == state and job.long_running


async def test_long_documents_hold_no_place_of_short_ones(gate: Gate, library: Library, other_library: Library) -> None:
    books = [await library.upload(f"{BOOK} {number}") for number in range(5)]

    async def one_at_work() -> bool:
        waiting = [await _long(library, document_id, "queued") for document_id in books]
        return len(gate.asked) == 1 and sum(waiting) == 4

    await eventually(one_at_work, within=30)
    other_book = await other_library.upload(BOOK)
    await ends(other_library, other_book, "embedding")
    # Nor do they when all long places are taken.
    for tenant in (library, other_library):
        assert await ends(tenant, await tenant.upload("A note.")) == "indexed"
    attempts = [(await library.job(document_id)).attempts for document_id in books]
    assert sorted(attempts) == [0, 0, 0, 0, 1]
    gate.open.set()
    for document_id in books:
        assert await ends(library, document_id, within=60) == "indexed"
        assert await library.events(document_id) == [("started", 1), ("completed", 2)]
    assert await ends(other_library, other_book) == "indexed"


async def test_a_large_document_is_long_from_the_beginning(
    gate: Gate, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_SHORT_CHUNKS", 1000)
    monkeypatch.setattr(service, "_LONG_BYTES", len(BOOK))
    book, larger = await library.upload(BOOK), await library.upload(BOOK + ".")
    assert await ends(library, book) == "indexed"
    assert not (await library.job(book)).long_running
    await ends(library, larger, "embedding")
    assert (await library.job(larger)).long_running
    gate.open.set()
    assert await ends(library, larger) == "indexed"


async def test_long_jobs_take_turns_and_go_on_where_they_were(
    gate: Gate, library: Library, other_library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_places, "_TURN_SECONDS", 0.0)
    monkeypatch.setattr(stages, "_KEPT_CHUNKS", 4)
    monkeypatch.setattr(stages, "_EMBEDDED_CHUNKS", 2)
    third = Library(library.database, library.projects, uuid.uuid4())
    tenants = (library, other_library, third)
    books = [(tenant, await tenant.upload(BOOK)) for tenant in tenants]

    async def all_known() -> bool:
        states = [await _long(tenant, document_id, "queued") for tenant, document_id in books]
        return len(gate.asked) == 2 and sum(states) == 1

    await eventually(all_known, within=30)
    gate.open.set()
    for tenant, document_id in books:
        assert await ends(tenant, document_id, within=60) == "indexed"
    # The last to begin did so once another had kept its first four chunks, two calls later, and not when it was done.
    asked = [[at for at, asker in enumerate(gate.asked) if asker == tenant.tenant_id] for tenant in tenants]
    assert max(calls[0] for calls in asked) < min(calls[-1] for calls in asked)
