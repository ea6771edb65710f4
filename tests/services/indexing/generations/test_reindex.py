"""A project is indexed again while it is searched and changed."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.indexing.embedders.minilm import MiniLM
from services.indexing.vectors.store import ProjectVectors
from shared.events.identity import TenantDeleted
from shared.tenancy import Database
from tests.services.indexing.generations.conftest import Project, make_due
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.uploads import Library
from tests.support.identity import IdentityDouble
from tests.support.polling import eventually
from tests.support.serving import StartedApp

Running = tuple[StartedApp, httpx.AsyncClient]
PerGeneration = Callable[[], Awaitable[dict[int, int]]]


@contextmanager
def background_texts_held(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Event]:
    """Nothing is embedded for a new generation until the event is set."""
    embed, released = MiniLM.embed, asyncio.Event()

    async def held(self: MiniLM, texts: Any, *, caller: Any, background: bool = False) -> Any:
        if background:
            await released.wait()
        return await embed(self, texts, caller=caller, background=background)

    with monkeypatch.context() as patch:
        patch.setattr(MiniLM, "embed", held)
        yield released
        released.set()


async def test_search_answers_the_same_before_during_and_after(project: Project, per_generation: PerGeneration) -> None:
    await project.fill(24)
    before = await project.answers()
    assert all(before.values())
    asked, stop = 0, asyncio.Event()

    async def search() -> None:
        nonlocal asked
        while not stop.is_set():
            assert await project.answers() == before
            asked += 1

    searching = asyncio.create_task(search())
    made = await project.reindex()
    assert (made["generation"], made["state"]) == (3, "building")
    await project.becomes({3: "active", 2: "kept"})
    assert await project.answers() == before
    stop.set()
    await searching
    assert asked
    assert await per_generation() == {2: 24, 3: 24}
    read = (await project.call("GET", "reindex/3")).json()
    assert read["progress"] == {"done": 24, "total": 24, "percent": 100}
    listed = (await project.call("GET", "reindex")).json()["items"]
    assert [(item["generation"], item["state"]) for item in listed] == [(3, "active"), (2, "kept")]


async def test_what_changes_meanwhile_is_right_in_both(
    project: Project, per_generation: PerGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = project.library
    documents = await project.fill(6)
    with background_texts_held(monkeypatch) as released:
        await project.reindex()
        deleted, replaced, described = documents[:3]
        await library.delete(deleted)
        await library.upload("The lighthouse was replaced.", document_id=replaced, version=2, sequence=5)
        await ends(library, replaced, version=2)
        await library.update(described, sequence=6, name="renamed.txt", metadata={"lang": "fr"})
        added = await library.upload("A lighthouse stands at the pier.")
        await ends(library, added)
        assert await project.states() == {3: "building", 2: "active"}
        found = {item["document_id"] for item in await project.search("lighthouse", "keyword")}
        assert found == {str(replaced), str(added)}
        assert str(deleted) not in {item["document_id"] for item in await project.search("granite")}
        released.set()
    await project.becomes({3: "active", 2: "kept"})
    await project.settled()
    found = {item["document_id"] for item in await project.search("lighthouse", "keyword")}
    assert found == {str(replaced), str(added)}
    assert str(deleted) not in {item["document_id"] for item in await project.search("granite")}
    french = {"field": "metadata.lang", "eq": "fr"}
    assert {item["document_id"] for item in await project.search("storm", filter=french)} == {str(described)}
    assert await per_generation() == {2: 6, 3: 6}


async def test_a_job_that_began_before_the_switch_goes_live_after_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = project.library
    await project.fill(3)
    upsert, reached, released = ProjectVectors.upsert, asyncio.Event(), asyncio.Event()
    late = uuid.uuid4()

    async def held(self: ProjectVectors, points: Any) -> None:
        await upsert(self, points)
        if points[0].document_id == late and points[0].generation == 2:
            reached.set()
            await released.wait()

    monkeypatch.setattr(ProjectVectors, "upsert", held)
    await library.upload("A lighthouse stands at the pier.", document_id=late)
    await reached.wait()
    await project.reindex()
    await project.becomes({3: "active", 2: "kept"})
    assert await project.search("lighthouse", "keyword") == []
    released.set()
    await ends(library, late)
    assert [item["document_id"] for item in await project.search("lighthouse", "keyword")] == [str(late)]
    assert await library.events(late) == [("started", 1), ("completed", 2)]


async def test_the_way_back_has_what_was_uploaded_since(project: Project, per_generation: PerGeneration) -> None:
    library = project.library
    documents = await project.fill(4)
    await project.reindex()
    await project.becomes({3: "active", 2: "kept"})
    added = await library.upload("A lighthouse stands at the pier.")
    await ends(library, added)
    await library.delete(documents[0])
    after = await project.answers()
    made = await project.reindex("/rollback")
    assert (made["generation"], made["state"]) == (2, "building")
    await project.becomes({2: "active", 3: "kept"})
    assert await project.answers() == after
    assert [item["document_id"] for item in await project.search("lighthouse", "keyword")] == [str(added)]
    await project.settled()
    assert await per_generation() == {2: 4, 3: 4}
    assert (await project.reindex())["generation"] == 4


async def test_pages_go_on_across_the_switch(project: Project) -> None:
    await project.fill(9)
    whole = [item["document_id"] for item in await project.search("number", "keyword")]
    assert len(whole) == 9
    request = {"query": "number", "mode": "keyword", "limit": 4}
    first = (await project.call("POST", "search", json=request)).json()
    await project.reindex()
    await project.becomes({3: "active", 2: "kept"})
    second = (await project.call("POST", "search", json={**request, "cursor": first["next_cursor"]})).json()
    third = (await project.call("POST", "search", json={**request, "cursor": second["next_cursor"]})).json()
    pages = [item["document_id"] for page in (first, second, third) for item in page["items"]]
    assert sorted(pages) == sorted(whole)


async def test_what_is_cancelled_leaves_nothing(
    project: Project, per_generation: PerGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    await project.fill(3)
    with background_texts_held(monkeypatch):
        await project.reindex()
        refused = await project.call("POST", "reindex")
        assert (refused.status_code, refused.json()["code"]) == (409, "reindex_in_progress")
        assert (await project.reindex("/3/cancel"))["state"] == "dropping"
    await project.becomes({2: "active"})
    await project.settled()
    assert await per_generation() == {2: 3}
    # Its number is not given to another.
    assert (await project.reindex())["generation"] == 4


async def test_the_generation_before_is_dropped_in_time(
    project: Project, database: Database, per_generation: PerGeneration
) -> None:
    await project.fill(3)
    await project.reindex()
    await project.becomes({3: "active", 2: "kept"})
    kept = (await project.library.generations())[2]
    assert kept.kept_until is not None
    assert timedelta(hours=23) < kept.kept_until - datetime.now(UTC) <= timedelta(hours=24)
    await make_due(database, project.library, state="kept")
    await project.becomes({3: "active"})
    assert await per_generation() == {3: 3}
    refused = await project.call("POST", "reindex/rollback")
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_return_to")


async def test_the_same_request_is_answered_with_the_same_generation(project: Project) -> None:
    await project.fill(1)
    key = {"Idempotency-Key": "once"}
    assert (await project.reindex(headers=key))["generation"] == 3
    assert (await project.reindex(headers=key))["generation"] == 3
    await project.becomes({3: "active", 2: "kept"})
    assert (await project.reindex(headers=key))["generation"] == 3


async def test_a_project_has_few_generations(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    await project.fill(1)

    async def unavailable(self: ProjectVectors, number: int, *, at_most: int) -> int:
        raise OSError("down")

    monkeypatch.setattr(ProjectVectors, "delete_generation", unavailable)
    with background_texts_held(monkeypatch):
        for number in (3, 4, 5):
            await project.reindex()
            await project.reindex(f"/{number}/cancel")
        refused = await project.call("POST", "reindex")
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_generations")


async def test_an_empty_project_is_indexed_again_at_once(project: Project) -> None:
    assert (await project.call("GET", "reindex")).json() == {"items": []}
    await project.reindex()
    await project.becomes({3: "active", 2: "kept"})


async def test_who_may_index_again(
    project: Project, library: Library, client: httpx.AsyncClient, tokens: IdentityDouble
) -> None:
    await project.fill(1)
    for role, allowed in (("viewer", 403), ("editor", 403), ("owner", 202), (None, 404)):
        user_id = uuid.uuid4()
        if role is not None:
            library.projects.access[library.project_id][user_id] = role
        headers = tokens.headers("indexing", tenant_id=library.tenant_id, user_id=user_id, tenant_role="member")
        path = f"/v1/projects/{library.project_id}/reindex"
        assert (await client.get(path, headers=headers)).status_code == (404 if role is None else 200)
        assert (await client.post(path, headers=headers)).status_code == allowed
        if role == "editor":
            assert (await client.post(f"{path}/rollback", headers=headers)).status_code == 403
            assert (await client.post(f"{path}/2/cancel", headers=headers)).status_code == 403
    assert (await project.call("GET", "reindex/99")).status_code == 404
    assert (await project.call("POST", "reindex/99/cancel")).status_code == 404
    refused = await project.call("POST", "reindex/2/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_building")


async def test_a_generation_of_another_project_is_not_found(project: Project, library: Library) -> None:
    await project.fill(1)
    elsewhere = Project(project.client, project.tokens, Library(library.database, library.projects, library.tenant_id))
    assert (await elsewhere.call("GET", "reindex/2")).status_code == 404
    assert (await elsewhere.call("POST", "reindex/2/cancel")).status_code == 404
    assert (await elsewhere.call("GET", "reindex")).json() == {"items": []}


async def test_a_deleted_tenant_leaves_no_generation(
    project: Project, vectors: ProjectVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = project.library
    await project.fill(3)
    with background_texts_held(monkeypatch):
        await project.reindex()
        await library.announce(TenantDeleted(tenant_id=library.tenant_id), sequence=1)

    async def nothing() -> bool:
        return not await library.generations() and await vectors.count() == 0

    await eventually(nothing, within=60)
    await project.settled()
    assert await vectors.count() == 0
