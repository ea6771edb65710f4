"""A search answers by what is true when its passages are read, however long it has waited since it was let in."""

import asyncio
import uuid
from typing import Any

import httpx
import pytest

from services.indexing.dependencies import Resources
from services.indexing.embedders import Vectors
from services.indexing.embedders.minilm import MiniLM
from shared.auth import Scope
from shared.events.envelope import Event
from shared.events.projects import ProjectDeleted, ProjectMemberChanged
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.search.conftest import Search
from tests.services.indexing.uploads import Library
from tests.support.leases import envelope
from tests.support.serving import StartedApp

Running = tuple[StartedApp, httpx.AsyncClient]
GRANITE = "Granite from the eastern face of the quarry built the harbour wall."


class Held:
    """Searches that have been let in and wait for the vectors of their queries."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = asyncio.Semaphore(0)
        self.go_on = asyncio.Event()
        embed_query = MiniLM.embed_query

        async def held(model: MiniLM, text: str, *, caller: Any) -> Vectors:
            self.waiting.release()
            await self.go_on.wait()
            return await embed_query(model, text, caller=caller)

        monkeypatch.setattr(MiniLM, "embed_query", held)


@pytest.fixture
def held(running: Running, monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(monkeypatch)


async def tell(library: Library, event: Event) -> None:
    """As the owner of projects does before it answers whoever caused the event."""
    await library.projects.leases.tell(envelope(event, library.tenant_id, sequence=2))


@pytest.mark.parametrize("options", [{}, {"facets": ["content_type"]}], ids=["page", "facets"])
@pytest.mark.parametrize("filled", [True, False], ids=["filled", "empty"])
async def test_a_project_deleted_meanwhile_is_404(
    search: Search, library: Library, held: Held, options: dict[str, Any], *, filled: bool
) -> None:
    if filled:
        await ends(library, await library.upload(GRANITE))
    async with asyncio.timeout(5):
        searching = asyncio.ensure_future(search(library, "granite", **options))
        await held.waiting.acquire()
        await tell(library, ProjectDeleted(project_id=library.project_id, actor_id=None))
        held.go_on.set()
        answer = await searching
    before = await search(library, "granite")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert {**answer.json(), "request_id": ""} == {**before.json(), "request_id": ""}


async def test_a_role_taken_away_meanwhile_is_404(search: Search, library: Library, held: Held) -> None:
    await ends(library, await library.upload(GRANITE))
    viewer = uuid.uuid4()
    library.projects.access[library.project_id] = {viewer: "viewer"}
    caller = {"user_id": viewer, "tenant_role": "member", "scopes": [Scope.SEARCH]}
    async with asyncio.timeout(5):
        searching = asyncio.ensure_future(search(library, "granite", caller=caller))
        await held.waiting.acquire()
        removed = ProjectMemberChanged(project_id=library.project_id, user_id=viewer, role=None, actor_id=None)
        await tell(library, removed)
        held.go_on.set()
        answer = await searching
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_document_deleted_meanwhile_is_not_found(search: Search, library: Library, held: Held) -> None:
    document_id = await library.upload(GRANITE)
    await ends(library, document_id)
    async with asyncio.timeout(5):
        searching = asyncio.ensure_future(search(library, "granite", facets=["content_type"]))
        await held.waiting.acquire()
        await library.delete(document_id)
        held.go_on.set()
        answer = (await searching).json()
    assert (answer["items"], answer["facets"]) == ([], {"content_type": []})


async def test_an_owner_not_heard_of_meanwhile_is_503(
    running: Running, search: Search, library: Library, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered may be untrue by now, and nobody has waited for this process to hear so."""
    projection = running[0].resources(Resources).directory._projection
    async with asyncio.timeout(5):
        searching = asyncio.ensure_future(search(library, "granite"))
        await held.waiting.acquire()
        monkeypatch.setitem(projection._behind, library.tenant_id, None)
        held.go_on.set()
        answer = await searching
    assert answer.status_code == 503
