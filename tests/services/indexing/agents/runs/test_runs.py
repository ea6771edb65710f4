"""Runs over HTTP, from the question to the answer and what is left of it."""

import asyncio
import uuid
from dataclasses import replace
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from services.indexing.agents.runs import service
from services.indexing.agents.runs.models import Run, RunStep, RunTurn
from shared.auth import Scope
from shared.errors import Unavailable
from shared.events.identity import TenantDeleted
from shared.events.projects import ProjectDeleted
from shared.outbox import OutboxEvent
from shared.tenancy import Database
from tests.services.indexing.agents.runs.conftest import Caller, CallerOf, Index, Running, Script
from tests.services.indexing.uploads import Library
from tests.shared.test_metrics import value
from tests.support.polling import eventually
from tests.support.serving import serve

STEPS = ["plan", "retrieve", "select", "answer", "verify"]


async def told(database: Database, library: Library, run_id: str) -> list[tuple[str, int, dict[str, Any]]]:
    """What was published of a run: type, number, facts."""
    async with database.tenant(library.tenant_id) as session:
        rows = await session.scalars(select(OutboxEvent).order_by(OutboxEvent.position))
        return [
            (row.type.removeprefix("indexing.").removesuffix(".v1"), row.sequence, row.data)
            for row in rows
            if row.subject == run_id
        ]


async def test_a_question_is_answered_with_a_citation_that_stands_in_the_text(caller: Caller, index: Index) -> None:
    text = "Granite from the eastern face built the harbour wall."
    document_id = await index(text)
    response = await caller.ask()
    assert response.status_code == 200, response.text
    run = response.json()
    assert response.headers["Quarry-Run-Id"] == run["id"]
    assert (run["status"], run["agent"], run["error"], run["exhausted"]) == ("completed", "answer", None, None)
    (citation,) = run["output"]["citations"]
    assert (citation["document_id"], citation["quote"], citation["version"]) == (str(document_id), text, 1)
    assert text[citation["start"] : citation["end"]] == citation["quote"]
    assert len(citation["sha256"]) == 64
    assert run["output"]["text"] == "Granite built the wall."
    assert [step["step"] for step in run["steps"]] == STEPS
    assert all(step["attempts"] == 1 and step["ended_at"] for step in run["steps"])


async def test_a_run_is_measured_step_by_step(caller: Caller, index: Index, client: httpx.AsyncClient) -> None:
    await index()

    async def counted() -> list[float]:
        text = (await client.get("/metrics")).text
        steps = [value(text, "quarry_run_step_seconds_count", step=step) or 0 for step in STEPS]
        ended = value(text, "quarry_runs_ended_total", agent="answer", status="completed") or 0
        return [*steps, ended, value(text, "quarry_run_seconds_count", agent="answer") or 0]

    before = await counted()
    assert (await caller.ask()).json()["status"] == "completed"

    async def one_more() -> bool:
        return [after - earlier for earlier, after in zip(before, await counted(), strict=True)] == [1] * len(before)

    await eventually(one_more)


async def test_the_events_of_a_run_are_numbered_without_gaps_and_say_what_happened(
    caller: Caller, index: Index, database: Database, library: Library
) -> None:
    await index()
    run = (await caller.ask()).json()
    events = await told(database, library, run["id"])
    assert [number for _, number, _ in events] == list(range(1, len(events) + 1))
    assert [name for name, _, _ in events] == [
        "run.started",
        *("run_step.started", "run_step.completed") * 2,
        *("run_step.started", "run_passages.found", "run_step.completed"),
        *("run_step.started", "run_text.added", "run_step.completed"),
        *("run_step.started", "run_citation.verified", "run_step.completed"),
        "run.ended",
    ]
    assert events[-1][2]["output"] == run["output"]
    assert "text" not in events[6][2]["passages"][0]


async def test_without_evidence_the_answer_is_a_refusal(caller: Caller, library: Library) -> None:
    run = (await caller.ask()).json()
    assert (run["status"], run["output"]["refusal"], run["output"]["text"]) == ("completed", "no_evidence", "")


async def test_text_is_joined_to_one_event_in_a_tenth_of_a_second(
    caller: Caller, index: Index, database: Database, library: Library, script: Script
) -> None:
    await index()
    script.pieces, script.pause = [f"word{number} " for number in range(100)], 0.005
    run = (await caller.ask()).json()
    texts = [facts["text"] for name, _, facts in await told(database, library, run["id"]) if name == "run_text.added"]
    assert "".join(texts) == run["output"]["text"]
    seconds = 100 * 0.008
    assert 2 <= len(texts) <= 2 + seconds / 0.1 * 2


async def test_a_run_is_found_listed_and_deleted(
    caller: Caller, index: Index, database: Database, library: Library
) -> None:
    await index()
    run_id = await caller.start()
    await caller.ended(run_id)
    listed = (await caller.get("runs")).json()
    assert [run["id"] for run in listed["items"]] == [run_id]
    assert (await caller.delete(f"runs/{run_id}")).status_code == 204
    assert (await caller.get(f"runs/{run_id}")).status_code == 404
    assert (await caller.get("runs")).json()["items"] == []
    assert (await told(database, library, run_id))[-1][0] == "run.deleted"
    async with database.tenant(library.tenant_id) as session:
        assert (await session.scalars(select(RunStep))).all() == []


async def test_cancelling_stops_the_answerer_within_two_seconds(caller: Caller, index: Index, script: Script) -> None:
    await index()
    script.gate = asyncio.Event()
    run_id = await caller.start()

    async def began() -> bool:
        return script.began == 1

    await eventually(began)
    clock = asyncio.get_running_loop().time
    asked = clock()
    cancelled = await caller.post(f"runs/{run_id}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")

    async def closed() -> bool:
        return script.closed == 1

    await eventually(closed)
    assert clock() - asked < 2
    again = await caller.post(f"runs/{run_id}/cancel")
    assert again.json()["finished_at"] == cancelled.json()["finished_at"]
    assert (await caller.run(run_id))["error"]["code"] == "cancelled"


@pytest.mark.parametrize(
    ("on_disconnect", "status", "code"), [("cancel", "cancelled", "disconnected"), ("continue", "completed", None)]
)
async def test_a_run_goes_on_without_whoever_asked_unless_it_is_to_end_with_them(
    running: Running, caller: Caller, index: Index, script: Script, on_disconnect: str, status: str, code: str | None
) -> None:
    await index()
    script.gate = asyncio.Event()
    async with serve(running[0]) as url, httpx.AsyncClient(base_url=url, timeout=30) as leaving:
        asking = asyncio.create_task(replace(caller, client=leaving).ask(on_disconnect=on_disconnect))

        async def began() -> bool:
            return script.began == 1

        await eventually(began)
        asking.cancel()
        await asyncio.wait([asking])
        (listed,) = (await caller.get("runs")).json()["items"]
        if on_disconnect == "continue":
            script.gate.set()
        run = await caller.ended(listed["id"])
    assert (run["status"], run["error"] and run["error"]["code"]) == (status, code)


async def test_a_call_beyond_the_budget_is_not_made(caller: Caller, index: Index, script: Script) -> None:
    await index()
    script.calls = [1000, 1000]
    run = await caller.ended(await caller.start(budget={"model_calls": 1, "model_tokens": 5000}))
    assert (run["status"], run["exhausted"], run["usage"]["model_calls"]) == ("incomplete", "model_calls", 1)
    assert run["usage"]["model_tokens"] == 500
    run = await caller.ended(await caller.start(budget={"model_calls": 5, "model_tokens": 1499}))
    assert (run["status"], run["exhausted"]) == ("incomplete", "model_tokens")
    assert run["usage"] == {"model_calls": 1, "model_tokens": 500, "input_tokens": 250, "output_tokens": 250}


async def test_a_run_ends_when_its_seconds_are_used_up(caller: Caller, index: Index, script: Script) -> None:
    await index()
    script.gate = asyncio.Event()
    run = await caller.ended(await caller.start(budget={"seconds": 0.5}))
    assert (run["status"], run["exhausted"], script.closed) == ("incomplete", "seconds", 1)


async def test_what_may_pass_is_tried_again(caller: Caller, index: Index, script: Script) -> None:
    await index()
    script.error = Unavailable()
    run_id = await caller.start()

    async def was_tried() -> bool:
        return script.began >= 1

    await eventually(was_tried)
    script.error = None
    run = await caller.ended(run_id)
    assert run["status"] == "completed"
    assert [step["attempts"] for step in run["steps"]] == [1, 1, 1, script.began, 1]


async def test_the_answerer_sees_passages_of_the_callers_project_only(
    caller: Caller, index: Index, script: Script, other_library: Library
) -> None:
    await index()
    await other_library.upload("Granite of another tenant built another harbour wall.")
    await caller.ask()
    ((_, passages),) = script.questions
    assert len(passages) == 1


@pytest.mark.parametrize("scope", [scope for scope in Scope if scope is not Scope.SEARCH])
async def test_a_run_takes_the_right_to_search(
    caller_of: CallerOf, caller: Caller, library: Library, scope: Scope
) -> None:
    response = await caller_of(library, scopes=[scope]).ask()
    assert response.status_code == 403
    assert (await caller.get("runs")).json()["items"] == []


async def test_with_search_alone_runs_are_followed_by_id_and_not_listed(
    caller_of: CallerOf, caller: Caller, library: Library
) -> None:
    run_id = await caller.start()
    await caller.ended(run_id)
    reader = caller_of(library, scopes=[Scope.SEARCH])
    assert (await reader.get(f"runs/{run_id}")).status_code == 200
    assert (await reader.get("runs")).status_code == 403
    assert (await reader.post(f"runs/{run_id}/cancel")).status_code == 403
    assert (await reader.delete(f"runs/{run_id}")).status_code == 403


async def test_to_read_a_run_takes_the_right_to_search(caller_of: CallerOf, caller: Caller, library: Library) -> None:
    run_id = await caller.start()
    await caller.ended(run_id)
    others = caller_of(library, scopes=[scope for scope in Scope if scope is not Scope.SEARCH])
    assert (await others.get(f"runs/{run_id}")).status_code == 403


async def test_a_run_is_not_found_under_another_project(
    caller_of: CallerOf, caller: Caller, library: Library, database: Database
) -> None:
    run_id = await caller.start()
    await caller.ended(run_id)
    elsewhere = caller_of(Library(database, library.projects, library.tenant_id))
    assert (await elsewhere.get(f"runs/{run_id}")).status_code == 404


async def test_a_filter_is_kept_as_it_was_sent(caller: Caller) -> None:
    document_id = str(uuid.uuid4())
    sent = {"any": [{"not": {"field": "document_id", "in": [document_id]}}, {"field": "metadata.lang", "eq": "en"}]}
    run = (await caller.ask(filter=sent)).json()
    assert (run["status"], run["input"]["filter"]) == ("completed", sent)


async def test_a_run_is_of_its_project_and_tenant(caller_of: CallerOf, caller: Caller, other_library: Library) -> None:
    run_id = await caller.start()
    await caller.ended(run_id)
    stranger = caller_of(other_library)
    for response in (
        await stranger.get(f"runs/{run_id}"),
        await stranger.post(f"runs/{run_id}/cancel"),
        await stranger.delete(f"runs/{run_id}"),
    ):
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_input_that_does_not_fit_the_contract_is_refused(caller: Caller) -> None:
    response = await caller.post("runs", json={"agent": "answer", "input": {"question": "", "tenant_id": "x"}})
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")
    assert {error["field"] for error in response.json()["errors"]} == {"input.question", "input.tenant_id"}
    assert (await caller.post("runs", json={"agent": "unknown", "input": {}})).status_code == 404


async def test_a_stream_goes_on_where_the_gateway_is_told_to(caller: Caller, library: Library) -> None:
    response = await caller.post("ask", json={"question": "What?", "stream": True})
    run_id = response.headers["Quarry-Run-Id"]
    where = f"/v1/projects/{library.project_id}/runs/{run_id}/events"
    assert (response.status_code, response.headers["X-Quarry-Continue"], response.text) == (200, where, "")
    await caller.ended(run_id)


async def test_a_run_that_has_read_a_deleted_document_is_gone_at_once_and_soon_for_good(
    caller: Caller, index: Index, library: Library, database: Database, script: Script
) -> None:
    document_id = await index()
    finished = (await caller.ask()).json()["id"]
    script.gate = asyncio.Event()
    under_way = await caller.start()

    async def began() -> bool:
        return script.began == 2

    await eventually(began)
    await library.delete(document_id)
    assert (await caller.get(f"runs/{finished}")).status_code == 404
    assert (await caller.get(f"runs/{under_way}")).status_code == 404

    async def forgotten() -> bool:
        async with database.tenant(library.tenant_id) as session:
            return not (await session.scalars(select(RunStep))).all()

    await eventually(forgotten)
    events = await told(database, library, under_way)
    assert [name for name, _, _ in events[-2:]] == ["run.ended", "run.deleted"]
    assert events[-2][2]["code"] == "document_deleted"

    async def closed() -> bool:
        return script.closed == 2

    await eventually(closed)


async def test_access_removed_ends_the_run_within_five_seconds(
    caller_of: CallerOf, library: Library, index: Index, script: Script, tokens: Any
) -> None:
    await index()
    credential, script.gate = uuid.uuid4(), asyncio.Event()
    caller, other = caller_of(library, credential_id=credential), caller_of(library)
    run_id = await caller.start()

    async def began() -> bool:
        return script.began == 1

    await eventually(began)
    clock = asyncio.get_running_loop().time
    removed = clock()
    tokens.now[credential] = None
    run = await other.ended(run_id)
    assert clock() - removed < 5
    assert (run["status"], run["error"]["code"], script.closed) == ("cancelled", "access_removed", 1)


async def test_a_tenant_lets_only_so_many_runs_wait(
    caller: Caller,
    caller_of: CallerOf,
    other_library: Library,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    index: Index,
) -> None:
    await index()
    monkeypatch.setattr(service, "MOST_UNFINISHED", 3)
    script.gate = asyncio.Event()
    runs = [await caller.start() for _ in range(3)]
    refused = await caller.post("runs", json={"agent": "answer", "input": {"question": "What?"}})
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_runs")
    assert (await caller_of(other_library).ask()).status_code == 200
    script.gate.set()
    for run_id in runs:
        assert (await caller.ended(run_id))["status"] == "completed"
    assert (await caller.ask()).status_code == 200


async def test_text_of_a_worker_that_lost_its_turn_is_taken_back(
    caller: Caller, index: Index, database: Database, library: Library, script: Script
) -> None:
    await index()
    script.gate = asyncio.Event()
    run_id = await caller.start()

    async def sent() -> bool:
        return any(name == "run_text.added" for name, _, _ in await told(database, library, run_id))

    await eventually(sent)
    async with database.system() as session:
        await session.execute(update(RunTurn).where(RunTurn.run_id == uuid.UUID(run_id)).values(due_at=func.now()))

    async def taken_over() -> bool:
        return script.began == 2

    await eventually(taken_over)
    script.gate.set()
    run = await caller.ended(run_id)
    events = await told(database, library, run_id)
    names = [name for name, _, _ in events]
    assert [number for _, number, _ in events] == list(range(1, len(events) + 1))
    assert names.count("run_answer.restarted") == 1
    after = names.index("run_answer.restarted")
    assert (
        "".join(facts["text"] for name, _, facts in events[after:] if name == "run_text.added") == run["output"]["text"]
    )
    assert [step["attempts"] for step in run["steps"]] == [1, 1, 1, 2, 1]
    assert names.count("run_step.started") == len(STEPS)


async def test_an_agent_that_needs_a_model_does_not_run_without_one(caller: Caller) -> None:
    body = {"agent": "extract", "input": {"schema": {"properties": {"year": {"type": "integer"}}}}}
    response = await caller.post("runs", json=body)
    assert (response.status_code, response.json()["code"]) == (409, "model_required")


@pytest.mark.parametrize("deleted", ["project", "tenant"])
async def test_runs_end_with_their_project_and_their_tenant(
    caller: Caller, index: Index, library: Library, database: Database, script: Script, deleted: str
) -> None:
    await index()
    finished = (await caller.ask()).json()["id"]
    script.gate = asyncio.Event()
    under_way = await caller.start()

    async def began() -> bool:
        return script.began == 2

    await eventually(began)
    if deleted == "project":
        await library.announce(ProjectDeleted(project_id=library.project_id, actor_id=None), sequence=9)
    else:
        await library.announce(TenantDeleted(tenant_id=library.tenant_id), sequence=9)

    async def closed() -> bool:
        return script.closed == 2

    await eventually(closed)
    events = await told(database, library, under_way)
    ended = next(facts for name, _, facts in events if name == "run.ended")
    assert (ended["status"], ended["code"]) == ("cancelled", "access_removed")

    async def forgotten() -> bool:
        async with database.tenant(library.tenant_id) as session:
            return not (await session.scalars(select(Run))).all()

    if deleted == "tenant":
        await eventually(forgotten)
        assert [name for name, _, _ in (await told(database, library, finished))[-1:]] == ["run.deleted"]
    else:
        assert not await forgotten()
