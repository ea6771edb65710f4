"""A question and its answer through the gateway: whole, streamed, resumed, cancelled."""

import asyncio
import uuid
from typing import Any

import httpx
import orjson
import pytest

from tests.support.remote_system import Product
from tests.support.system import create_project, settled, upload

pytestmark = pytest.mark.system

TEXT = (
    "The harbour wall of Porthgwarra was built in 1871. It is made of granite from the eastern quarry. "
    "The mason who built it was called Jory Pascoe. Every spring the wall is inspected for cracks."
)
QUESTION = "What is the harbour wall made of?"


@pytest.fixture(scope="session")
async def owner(product: Product) -> httpx.AsyncClient:
    _, client = await product.tenant("agents")
    return client


@pytest.fixture(scope="session")
async def project(owner: httpx.AsyncClient) -> str:
    project_id = await create_project(owner)
    await upload(owner, project_id, "wall.txt", TEXT.encode())
    await settled(owner, project_id, 1)
    return project_id


Frame = tuple[int | None, str, dict[str, Any]]


async def frames_of(response: httpx.Response) -> list[Frame]:
    """The events of a stream, until it ends."""
    frames: list[Frame] = []
    async for block in _blocks(response):
        lines = dict(line.split(": ", 1) for line in block if not line.startswith(":") and ": " in line)
        if "event" in lines:
            number = int(lines["id"]) if "id" in lines else None
            frames.append((number, lines["event"], orjson.loads(lines["data"])))
    return frames


async def _blocks(response: httpx.Response) -> Any:
    block: list[str] = []
    async for line in response.aiter_lines():
        if line:
            block.append(line)
        else:
            yield block
            block = []


def text_of(frames: list[Frame]) -> str:
    return "".join(data["text"] for _, name, data in frames if name == "delta")


async def test_an_answer_is_quoted_from_the_document_and_cited_where_it_stands(
    owner: httpx.AsyncClient, project: str
) -> None:
    answer = await owner.post(f"/v1/projects/{project}/ask", json={"question": QUESTION, "stream": False})
    assert answer.status_code == 200, answer.text
    run = answer.json()
    assert (run["status"], run["output"]["grounding"]) == ("completed", "full")
    assert "granite" in run["output"]["text"]
    for citation in run["output"]["citations"]:
        assert TEXT[citation["start"] : citation["end"]] == citation["quote"]
    assert (await owner.get(f"/v1/projects/{project}/runs/{run['id']}")).json() == run
    listed = (await owner.get(f"/v1/projects/{project}/runs")).json()["items"]
    assert run["id"] in [one["id"] for one in listed]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("ask", {"question": QUESTION}, 200),
        ("runs", {"agent": "answer", "input": {"question": QUESTION}, "stream": True}, 201),
    ],
    ids=["ask", "runs"],
)
async def test_the_stream_of_a_run_comes_in_the_response_that_starts_it_and_again_later(
    owner: httpx.AsyncClient, project: str, path: str, body: dict[str, Any], status: int
) -> None:
    async with owner.stream("POST", f"/v1/projects/{project}/{path}", json=body) as response:
        assert (response.status_code, response.headers["content-type"]) == (status, "text/event-stream")
        assert "x-quarry-continue" not in response.headers
        run_id = response.headers["quarry-run-id"]
        frames = await frames_of(response)
    assert [number for number, _, _ in frames] == list(range(1, len(frames) + 1))
    assert (frames[0][1], frames[-1][1]) == ("run.started", "done")
    names = [name for _, name, _ in frames]
    assert names.index("passages") < names.index("delta") < names.index("citation")
    assert len({data["traceparent"].split("-")[1] for _, _, data in frames}) == 1
    run = (await owner.get(f"/v1/projects/{project}/runs/{run_id}")).json()
    assert frames[-1][2]["output"] == run["output"]
    assert text_of(frames) == run["output"]["text"]
    events = f"/v1/projects/{project}/runs/{run_id}/events"
    for after in range(len(frames)):
        async with owner.stream("GET", events, headers={"Last-Event-ID": str(after)}) as response:
            rest = [(number, name) for number, name, _ in await frames_of(response)]
            assert rest == [(number, name) for number, name, _ in frames[after:]]
    over = await owner.get(events, params={"last_event_id": len(frames)})
    assert over.status_code == 204


async def test_a_summary_is_made_of_sentences_of_the_document(owner: httpx.AsyncClient, project: str) -> None:
    started = await owner.post(
        f"/v1/projects/{project}/runs", json={"agent": "summarise", "input": {"length": 2}, "stream": True}
    )
    run_id = started.headers["quarry-run-id"]
    run = (await owner.get(f"/v1/projects/{project}/runs/{run_id}")).json()
    assert run["status"] == "completed"
    assert 1 <= len(run["output"]["citations"]) <= 2
    for citation in run["output"]["citations"]:
        assert TEXT[citation["start"] : citation["end"]] == citation["quote"]


async def test_agents_publish_their_contracts(owner: httpx.AsyncClient) -> None:
    agents = (await owner.get("/v1/agents")).json()["items"]
    assert {"answer", "summarise"} <= {agent["name"] for agent in agents}
    answer = (await owner.get("/v1/agents/answer")).json()
    assert answer["input"]["properties"]["question"]["maxLength"] == 2000
    assert (await owner.get("/v1/agents/unknown")).status_code == 404


async def test_no_client_can_say_where_a_response_goes_on(owner: httpx.AsyncClient, project: str) -> None:
    elsewhere = f"/v1/projects/{project}/runs/{uuid.uuid4()}/events"
    answer = await owner.post(
        f"/v1/projects/{project}/ask",
        json={"question": QUESTION, "stream": False},
        headers={"X-Quarry-Continue": elsewhere},
    )
    assert answer.json()["status"] == "completed"
    assert "x-quarry-continue" not in answer.headers


async def test_a_run_of_another_tenant_is_not_there(product: Product, owner: httpx.AsyncClient, project: str) -> None:
    run_id = (await owner.post(f"/v1/projects/{project}/ask", json={"question": QUESTION, "stream": False})).json()[
        "id"
    ]
    _, stranger = await product.tenant("agents-stranger")
    theirs = await create_project(stranger)
    for where in (project, theirs):
        for path in ("", "/events"):
            answer = await stranger.get(f"/v1/projects/{where}/runs/{run_id}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_many_questions_at_once_are_all_answered(owner: httpx.AsyncClient, project: str) -> None:
    asked = [owner.post(f"/v1/projects/{project}/ask", json={"question": QUESTION, "stream": False}) for _ in range(20)]
    answers = await asyncio.gather(*asked)
    assert {answer.json()["status"] for answer in answers} == {"completed"}


async def test_the_question_of_the_readme_is_answered_as_it_says(owner: httpx.AsyncClient) -> None:
    project = await create_project(owner)
    text = "The lighthouse keeper repaired the broken lamp before the storm."
    await upload(owner, project, "log.txt", text.encode())
    await settled(owner, project, 1)
    answer = await owner.post(
        f"/v1/projects/{project}/ask", json={"question": "Who repaired the lamp?", "stream": False}
    )
    output = answer.json()["output"]
    assert (output["text"], output["grounding"], output["refusal"]) == (text, "full", None)
    (citation,) = output["citations"]
    assert (citation["start"], citation["end"], citation["match"], citation["quote"]) == (0, len(text), "exact", text)
