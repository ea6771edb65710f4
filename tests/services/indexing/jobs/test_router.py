"""Jobs, progress and dead letters over HTTP."""

import asyncio
import uuid
from typing import Any

import aiohttp
import httpx
import pytest
from sqlalchemy.pool import QueuePool

from shared import service_client
from shared.auth import PrincipalKind, Scope
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.uploads import Library
from tests.support.identity import IdentityDouble
from tests.support.polling import eventually
from tests.support.serving import StartedApp

Running = tuple[StartedApp, httpx.AsyncClient]
PATHS = ("jobs", "progress", "dead-letters")


class Caller:
    def __init__(self, client: httpx.AsyncClient, tokens: IdentityDouble, library: Library, **who: Any) -> None:
        self._client = client
        self._path = f"/v1/projects/{library.project_id}"
        self._headers = tokens.headers("indexing", **{"tenant_id": library.tenant_id, **who})

    async def get(self, path: str, **query: Any) -> httpx.Response:
        return await self._client.get(f"{self._path}/{path}", params=query, headers=self._headers)

    async def redrive(self, job_id: uuid.UUID) -> httpx.Response:
        return await self._client.post(f"{self._path}/dead-letters/{job_id}/redrive", headers=self._headers)


@pytest.fixture
def caller(client: httpx.AsyncClient, tokens: IdentityDouble, library: Library) -> Caller:
    return Caller(client, tokens, library)


async def test_jobs_are_listed_newest_first_in_pages(caller: Caller, library: Library) -> None:
    documents = [await library.upload(f"text {number}") for number in range(3)]
    for document_id in documents:
        await ends(library, document_id)
    first = (await caller.get("jobs", limit=2)).json()
    second = (await caller.get("jobs", limit=2, cursor=first["next_cursor"])).json()
    assert second["next_cursor"] is None
    jobs = first["items"] + second["items"]
    assert [job["document_id"] for job in jobs] == [str(document_id) for document_id in reversed(documents)]
    job = jobs[0]
    assert (job["state"], job["percent"], job["chunk_count"], job["attempts"]) == ("indexed", 100, 1, 1)
    assert (job["lane"], job["version"], job["error"]) == ("interactive", 1, None)
    assert job["finished_at"] >= job["started_at"] >= job["created_at"]


async def test_jobs_of_deleted_documents_are_not_listed(caller: Caller, library: Library) -> None:
    document_id = await library.upload("text")
    await ends(library, document_id)
    await library.delete(document_id)
    assert (await caller.get("jobs")).json() == {"items": [], "next_cursor": None}


async def test_progress_is_a_snapshot_of_what_runs(
    caller: Caller, client: httpx.AsyncClient, tokens: IdentityDouble, library: Library
) -> None:
    document_id = uuid.uuid4()
    gate = library.projects.held[document_id] = asyncio.Event()
    await library.upload("text", document_id=document_id)
    await ends(library, document_id, "extracting")
    notifier = tokens.headers("indexing", tenant_id=library.tenant_id, kind=PrincipalKind.SERVICE)
    internal = f"/internal/projects/{library.project_id}/progress"
    (entry,) = (await client.get(internal, headers=notifier)).json()["jobs"]
    assert (await caller.get("progress")).json()["jobs"] == [entry]
    job = await library.job(document_id)
    assert entry == {
        "job_id": str(job.id), "document_id": str(document_id), "version": 1,
        "stage": "extracting", "percent": 0, "done": 0, "total": 4, "unit": "bytes",
    }  # fmt: skip
    gate.set()
    await ends(library, document_id)
    assert (await client.get(internal, headers=notifier)).json() == {"jobs": []}


async def test_failed_work_is_listed_with_its_evidence_and_can_be_redriven(caller: Caller, library: Library) -> None:
    document_id = await library.upload(b"%PDF-1.7 nothing", name="x.pdf", content_type="application/pdf")
    await ends(library, document_id)
    listed = await caller.get("dead-letters")
    assert listed.status_code == 200, listed.text
    (letter,) = listed.json()["items"]
    job = await library.job(document_id)
    assert letter["id"] == str(job.id)
    assert (letter["code"], letter["attempts"]) == ("corrupt_document", 1)
    assert letter["evidence"]["stage"] == "extracting"
    library.projects.content[document_id, 1] = b"It was only a bad day."
    answer = await caller.redrive(job.id)
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert await ends(library, document_id) == "indexed"
    assert [kind for kind, _ in await library.events(document_id)] == ["started", "failed", "started", "completed"]
    assert (await caller.get("dead-letters")).json()["items"] == []
    again = await caller.redrive(job.id)
    assert (again.status_code, again.json()["code"]) == (409, "not_failed")


async def test_what_nobody_wants_any_more_cannot_be_redriven(caller: Caller, library: Library) -> None:
    document_id = await library.upload(b"%PDF-1.7 nothing", name="x.pdf", content_type="application/pdf")
    await ends(library, document_id)
    await library.delete(document_id)
    assert (await caller.redrive((await library.job(document_id)).id)).status_code == 404
    assert (await caller.redrive(uuid.uuid4())).status_code == 404


async def test_a_job_of_another_project_cannot_be_redriven(
    client: httpx.AsyncClient, tokens: IdentityDouble, library: Library
) -> None:
    document_id = await library.upload(b"%PDF-1.7 nothing", name="x.pdf", content_type="application/pdf")
    await ends(library, document_id)
    neighbour = Library(library.database, library.projects, library.tenant_id)
    job_id = (await library.job(document_id)).id
    assert (await Caller(client, tokens, neighbour).redrive(job_id)).status_code == 404


@pytest.mark.parametrize("path", PATHS)
async def test_anonymous_is_401(client: httpx.AsyncClient, library: Library, path: str) -> None:
    answer = await client.get(f"/v1/projects/{library.project_id}/{path}")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("path", PATHS)
async def test_an_unknown_or_foreign_project_is_404(
    client: httpx.AsyncClient, tokens: IdentityDouble, library: Library, path: str
) -> None:
    del library.projects.access[library.project_id]
    answer = await Caller(client, tokens, library).get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", PATHS)
async def test_another_tenant_sees_nothing_even_with_the_project_id(
    client: httpx.AsyncClient, tokens: IdentityDouble, library: Library, path: str
) -> None:
    await ends(library, await library.upload("text"))
    answer = await Caller(client, tokens, library, tenant_id=uuid.uuid4()).get(path)
    assert answer.json() in ({"jobs": []}, {"items": [], "next_cursor": None})


async def test_a_role_of_a_known_project_is_asked_for_at_its_owner(
    client: httpx.AsyncClient, tokens: IdentityDouble, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is told that they have a role may use it at once; and whoever has none is refused as slowly as ever."""
    members = library.projects.access[library.project_id] = {uuid.uuid4(): "owner"}
    newcomer = uuid.uuid4()
    caller = Caller(client, tokens, library, user_id=newcomer, tenant_role="member")
    assert (await Caller(client, tokens, library).get("jobs")).status_code == 200
    assert (await caller.get("jobs")).status_code == 404
    members[newcomer] = "viewer"
    assert (await caller.get("jobs")).status_code == 200
    stranger = Caller(client, tokens, library, user_id=uuid.uuid4(), tenant_role="member")
    monkeypatch.setattr(library.projects, "down", True)
    assert (await caller.get("jobs")).status_code == 200
    assert (await stranger.get("jobs")).status_code == 503


async def test_roles_decide_who_may_read_and_who_may_redrive(
    client: httpx.AsyncClient, tokens: IdentityDouble, library: Library
) -> None:
    viewer, editor, stranger = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    library.projects.access[library.project_id] = {viewer: "viewer", editor: "editor"}

    def member(user_id: uuid.UUID, **who: Any) -> Caller:
        return Caller(client, tokens, library, user_id=user_id, tenant_role="member", **who)

    for path in PATHS:
        assert (await member(viewer).get(path)).status_code == 200
        assert (await member(stranger).get(path)).status_code == 404
        assert (await member(viewer, scopes=[Scope.SEARCH]).get(path)).status_code == 403
    document_id = await library.upload(b"%PDF-1.7 nothing", name="x.pdf", content_type="application/pdf")
    await ends(library, document_id)
    job_id = (await library.job(document_id)).id
    assert (await member(viewer).redrive(job_id)).status_code == 403
    assert (await member(stranger).redrive(job_id)).status_code == 404
    assert (await member(editor).redrive(job_id)).status_code == 202


async def test_a_cursor_of_nowhere_is_refused(caller: Caller) -> None:
    answer = await caller.get("jobs", cursor="nonsense")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


async def test_the_service_is_ready_with_everything_it_needs(running: Running) -> None:
    _, client = running

    async def ready() -> bool:
        return (await client.get("/readyz")).status_code == 200

    await eventually(ready)
    checks = (await client.get("/readyz")).json()["checks"]
    assert {"postgres", "redis", "streams", "vectors", "jobs", "vector-changes", "progress"} <= set(checks)


@pytest.mark.parametrize("path", PATHS)
async def test_no_connection_is_held_while_the_owner_of_an_unknown_project_is_asked(
    running: Running, library: Library, tokens: IdentityDouble, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    app, client = running
    pool, held, really = app.database.engines.runtime.pool, list[int](), service_client.ask
    assert isinstance(pool, QueuePool)

    async def ask(asker: aiohttp.ClientSession, method: Any, url: str, **asking: Any) -> tuple[int, bytes]:
        if not url.endswith("/access"):
            return await really(asker, method, url, **asking)

        async def none_held() -> bool:
            # Those of the workers come and go.
            held.append(pool.checkedout())
            return held[-1] == 0

        await eventually(none_held)
        return 404, b""

    monkeypatch.setattr(service_client, "ask", ask)
    headers = tokens.headers("indexing", tenant_id=library.tenant_id)
    answer = await client.get(f"/v1/projects/{uuid.uuid4()}/{path}", headers=headers)
    assert answer.status_code == 404
    assert held
