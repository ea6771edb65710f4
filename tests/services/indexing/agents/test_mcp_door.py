"""The door for agents: what it answers to messages that are right, wrong, too large, and made to break it."""

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.indexing.agents.mcp import service
from services.indexing.agents.mcp.door import MOST_BYTES
from services.indexing.embedders.errors import EmbedderUnavailable
from services.indexing.embedders.minilm import MiniLM
from shared import db
from shared.auth import Scope
from shared.tenancy import Database
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.projects_double import ProjectsDouble
from tests.services.indexing.uploads import Library
from tests.support.identity import IdentityDouble, unverified
from tests.support.polling import eventually
from tests.support.serving import StartedApp

Running = tuple[StartedApp, httpx.AsyncClient]
Json = dict[str, Any]

MODERN = "2026-07-28"
_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}
GRANITE = "Granite from the eastern face of the quarry built the harbour wall."


@dataclass(frozen=True, slots=True)
class Agent:
    """Somebody with a token, who speaks one era of the protocol."""

    client: httpx.AsyncClient
    headers: dict[str, str]
    modern: bool = False

    async def send(self, message: object, **headers: str) -> httpx.Response:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        sent = {"Content-Type": "application/json", "Accept": "application/json", **self.headers, **headers}
        return await self.client.post("/mcp", content=body, headers=sent)

    async def request(self, method: str, **params: Any) -> httpx.Response:
        message: Json = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        if not self.modern:
            return await self.send(message)
        message["params"]["_meta"] = _META
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        if method == "tools/call":
            headers["Mcp-Name"] = params["name"]
        return await self.send(message, **headers)

    async def call(self, tool: str, **arguments: Any) -> Json:
        answer = await self.request("tools/call", name=tool, arguments=arguments)
        assert answer.status_code == 200, answer.text
        result: Json = answer.json()["result"]
        return result

    async def told(self, tool: str, **arguments: Any) -> str:
        """What a tool says instead of giving anything."""
        result = await self.call(tool, **arguments)
        assert result["isError"] and "structuredContent" not in result, result
        return str(result["content"][0]["text"])


AgentOf = Callable[..., Agent]


@pytest.fixture
def agent_of(client: httpx.AsyncClient, tokens: IdentityDouble) -> AgentOf:
    """An agent of the owner of a library's tenant."""

    def make(library: Library, *, modern: bool = False, **options: Any) -> Agent:
        return Agent(client, tokens.headers("indexing", tenant_id=library.tenant_id, **options), modern)

    return make


@pytest.fixture(params=[False, True], ids=["handshake", "modern"])
def agent(request: pytest.FixtureRequest, agent_of: AgentOf, library: Library) -> Agent:
    return agent_of(library, modern=request.param)


@pytest.fixture(scope="module")
async def shelf(running: Running, database: Database, projects: ProjectsDouble) -> AsyncIterator[Library]:
    library = Library(database, projects, uuid.uuid4())
    document = await library.upload(GRANITE, name="granite.txt", metadata={"lang": "en"})
    assert await ends(library, document) == "indexed"
    yield library


# --- the protocol ----------------------------------------------------------------------------------------------------


async def test_a_client_of_the_older_era_shakes_hands(agent_of: AgentOf, library: Library) -> None:
    agent = agent_of(library)
    about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    answer = (await agent.request("initialize", **about)).json()["result"]
    assert answer["protocolVersion"] == "2025-06-18"
    assert answer["serverInfo"]["name"] == "quarry"
    assert answer["capabilities"] == {"tools": {"listChanged": False}}
    taken = await agent.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (taken.status_code, taken.content) == (202, b"")
    assert "mcp-session-id" not in taken.headers


async def test_a_client_of_the_newer_era_needs_no_handshake(agent_of: AgentOf, library: Library) -> None:
    answer = (await agent_of(library, modern=True).request("server/discover")).json()["result"]
    assert answer["supportedVersions"] == [MODERN]
    assert answer["capabilities"] == {"tools": {"listChanged": False}}


async def test_tools_have_schemas_and_only_read(agent: Agent) -> None:
    tools = (await agent.request("tools/list")).json()["result"]["tools"]
    assert [tool["name"] for tool in tools] == ["search", "fetch", "ask", "list_projects", "list_documents"]
    for tool in tools:
        assert tool["inputSchema"]["type"] == tool["outputSchema"]["type"] == "object"
        assert tool["inputSchema"]["additionalProperties"] is False
        assert tool["annotations"] == {
            "readOnlyHint": True,
            "destructiveHint": False,
            "idempotentHint": True,
            "openWorldHint": False,
        }


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH"])
async def test_there_is_no_session_to_listen_to_or_to_end(agent: Agent, method: str) -> None:
    headers = {**agent.headers, "Accept": "text/event-stream"}
    answer = await agent.client.request(method, "/mcp", headers=headers)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "OPTIONS, POST"


async def test_what_is_not_there_is_said_not_to_be(agent: Agent) -> None:
    for method in ("resources/list", "prompts/list", "logging/setLevel", "nothing/at/all"):
        error = (await agent.request(method)).json()["error"]
        assert error["code"] in (-32601, -32602), method
    unknown = await agent.request("tools/call", name="delete_everything" * 30, arguments={})
    assert unknown.json()["error"]["code"] == -32602
    assert len(unknown.json()["error"]["message"]) < 100


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"7", {}, 400),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', {}, 400),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}', {}, 400),
        (b"[" * 100_000, {}, 413),
        (b"[" * 60_000, {}, 400),
        (b"[" * 70 + b"]" * 70, {}, 422),
        (b"[" + b"1," * 20_000 + b"1]", {}, 413),
        (b" " * (MOST_BYTES + 1), {}, 413),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Accept": "text/html"}, 406),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}', {"MCP-Protocol-Version": "1999-01-01"}, 400),
    ],
)
async def test_a_message_that_is_none_is_refused(
    agent_of: AgentOf, library: Library, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = await agent_of(library).send(body, **headers)
    assert answer.status_code == status, answer.text
    assert len(answer.content) < 4_000
    # Refused before the SDK has seen it.
    assert (answer.headers["content-type"] == "application/problem+json") is (status in (413, 415, 422))


async def test_headers_that_contradict_the_message_are_refused(agent_of: AgentOf, library: Library) -> None:
    agent = agent_of(library, modern=True)
    params = {"name": "search", "arguments": {"query": "x"}, "_meta": _META}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    right = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "search"}
    for wrong in ({"Mcp-Method": "tools/list"}, {"Mcp-Name": "fetch"}):
        assert (await agent.send(message, **{**right, **wrong})).status_code == 400


async def test_nobody_gets_in_without_a_token_for_this_service(
    client: httpx.AsyncClient, tokens: IdentityDouble
) -> None:
    for headers in ({}, tokens.headers("projects", tenant_id=uuid.uuid4())):
        answer = await Agent(client, headers).request("tools/list")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_many_agents_are_served_at_once(agent_of: AgentOf, shelf: Library, other_library: Library) -> None:
    """Each gets its own answer, whatever the ids of their messages."""
    mine, theirs = agent_of(shelf), agent_of(other_library, modern=True)
    asked = [
        agent.call("search", query="granite", project_id=str(library.project_id))
        for _ in range(10)
        for agent, library in ((mine, shelf), (theirs, other_library))
    ]
    answers = await asyncio.gather(*asked)
    assert [len(answer["structuredContent"]["results"]) for answer in answers] == [1, 0] * 10


# --- tools -----------------------------------------------------------------------------------------------------------


async def test_links_lead_to_where_the_client_came_from(agent_of: AgentOf, shelf: Library) -> None:
    agent = agent_of(shelf)
    public = {**agent.headers, "X-Forwarded-Proto": "https", "X-Forwarded-Host": "quarry.example.test"}
    found = await Agent(agent.client, public).call("search", query="granite", project_id=str(shelf.project_id))
    (result,) = found["structuredContent"]["results"]
    path = f"/v1/projects/{shelf.project_id}/documents/{result['document_id']}/content"
    assert result["url"] == f"https://quarry.example.test{path}"


async def test_a_search_by_words_alone_says_so(
    agent_of: AgentOf, shelf: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: Any, **__: Any) -> None:
        raise EmbedderUnavailable("away")

    agent, given = agent_of(shelf), {"query": "granite", "project_id": str(shelf.project_id)}
    whole = (await agent.call("search", **given))["structuredContent"]
    monkeypatch.setattr(MiniLM, "embed_query", unavailable)
    found = (await agent.call("search", **given))["structuredContent"]
    assert (whole["partial"], found["partial"]) == (False, True)
    assert [item["id"] for item in found["results"]] == [item["id"] for item in whole["results"]]


async def test_large_metadata_is_left_out(
    agent_of: AgentOf, running: Running, library: Library, database: Database
) -> None:
    document = await library.upload("A cormorant dries its wings.", metadata={"note": "x" * 5_000})
    assert await ends(library, document) == "indexed"
    agent = agent_of(library)
    found = await agent.call("search", query="cormorant", project_id=str(library.project_id))
    assert found["structuredContent"]["results"][0]["metadata"] is None
    fetched = await agent.call("fetch", id=f"{library.project_id}/{document}")
    assert fetched["structuredContent"]["metadata"] is None


async def test_what_lies_between_chunks_keeps_places(agent_of: AgentOf, running: Running, library: Library) -> None:
    text = f"One fish.{' ' * 7}\n\n" + "Two fish swim here. " * 60 + "\n\n\n\nRed fish.\n" + "Blue fish. " * 90
    document = await library.upload(text)
    assert await ends(library, document) == "indexed"
    fetched = (await agent_of(library).call("fetch", id=f"{library.project_id}/{document}"))["structuredContent"]
    stored = text[fetched["start"] : fetched["end"]]
    assert len(fetched["text"]) == len(stored)
    assert all(a == b or (a.isspace() and b.isspace()) for a, b in zip(fetched["text"], stored, strict=True))


async def test_a_long_document_is_read_in_parts(agent_of: AgentOf, running: Running, library: Library) -> None:
    text = "".join(f"Sentence number {number} of the log of the lighthouse. " for number in range(1_500))
    document = await library.upload(text)
    assert await ends(library, document) == "indexed"
    agent, identifier = agent_of(library), f"{library.project_id}/{document}"
    parts: list[str] = []
    following: int | None = 0
    last = 0
    while following is not None:
        part = (await agent.call("fetch", id=identifier, from_chunk=following))["structuredContent"]
        assert last <= part["start"] < part["end"] <= last + 1 + 32_000
        parts.append(part["text"])
        following, last = part["next_chunk"], part["end"]
    assert len(parts) == 3
    assert " ".join(parts) == text.strip()
    around = (await agent.call("fetch", id=f"{identifier}/1/60"))["structuredContent"]
    assert 0 < around["start"] < last - 32_000


async def test_a_replaced_version_is_not_read_by_its_old_id(
    agent_of: AgentOf, running: Running, library: Library
) -> None:
    document = await library.upload("The first edition.")
    assert await ends(library, document) == "indexed"
    agent, identifier = agent_of(library), f"{library.project_id}/{document}"
    assert "first" in (await agent.call("fetch", id=f"{identifier}/1/0"))["structuredContent"]["text"]
    await library.upload("The second edition.", document_id=document, version=2, sequence=2)

    async def replaced() -> bool:
        return bool((await agent.call("fetch", id=f"{identifier}/1/0"))["isError"])

    await eventually(replaced, within=30)
    told = await agent.told("fetch", id=f"{identifier}/1/0")
    assert told.startswith("version_replaced") and identifier in told
    assert "second" in (await agent.call("fetch", id=identifier))["structuredContent"]["text"]


async def test_lists_are_asked_for_as_the_caller(
    agent_of: AgentOf, library: Library, projects: ProjectsDouble, tokens: IdentityDouble
) -> None:
    projects.lists["/v1/projects"] = (200, '{"items": [], "next_cursor": null}')
    projects.credentials.clear()
    scopes = [Scope.PROJECTS_READ]
    assert (await agent_of(library, scopes=scopes).call("list_projects"))["structuredContent"]["projects"] == []
    (sent,) = projects.credentials
    claims = unverified(sent.partition(" ")[2])
    assert (claims["aud"], claims["tid"], claims["scope"]) == ("projects", str(library.tenant_id), "projects:read")


@pytest.fixture
def owner_away(projects: ProjectsDouble) -> Iterator[None]:
    projects.down = True
    yield
    projects.down = False


@pytest.fixture
def identity_away(tokens: IdentityDouble) -> Iterator[None]:
    tokens.away = True
    yield
    tokens.away = False


@pytest.mark.usefixtures("owner_away")
async def test_a_service_that_is_away_is_named_as_such(agent: Agent) -> None:
    told = await agent.told("list_projects")
    assert told.startswith("unavailable: The projects service") and "Try again in 1 s." in told


@pytest.mark.usefixtures("identity_away")
async def test_without_identity_nothing_is_passed_on(agent: Agent) -> None:
    assert (await agent.told("list_projects")).startswith("unavailable: The identity service")


async def test_a_credential_that_ended_meanwhile_lists_nothing(
    agent_of: AgentOf, library: Library, tokens: IdentityDouble
) -> None:
    credential = uuid.uuid4()
    agent = agent_of(library, credential_id=credential)
    tokens.now[credential] = None
    assert (await agent.told("list_projects")).startswith("unauthenticated")


async def test_without_an_active_tenant_nothing_is_read(client: httpx.AsyncClient, tokens: IdentityDouble) -> None:
    agent = Agent(client, tokens.headers("indexing", tenant_id=None, tenant_role=None))
    named = str(uuid.uuid4())
    assert (await agent.told("search", query="x", project_id=named)).startswith("forbidden")
    assert (await agent.told("fetch", id=f"{named}/{named}")).startswith("forbidden")


async def test_wrong_arguments_cost_little_and_are_named(agent: Agent) -> None:
    told = await agent.told("search", query="x", **{f"field{number}": 1 for number in range(900)})
    assert told.startswith("invalid_arguments")
    assert len(told) < 4_000
    nested: Json = {"field": "metadata.a", "eq": 1}
    for _ in range(12):
        nested = {"not": nested}
    assert (await agent.told("search", query="x", project_id=str(uuid.uuid4()), filter=nested)).startswith("invalid_")


# --- defects and traces -----------------------------------------------------------------------------------------------


async def test_a_defect_says_nothing_about_itself(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(service, "_project", broken)
    answer = await agent.request("tools/call", name="search", arguments={"query": "x"})
    assert answer.json()["error"]["code"] == -32603
    assert "secret" not in answer.text
    assert [record.levelname for record in caplog.records if "tool_crashed" in record.getMessage()] == ["ERROR"]


async def test_a_database_that_is_away_is_no_defect(
    agent: Agent, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise ConnectionRefusedError("no server")

    monkeypatch.setattr(service, "_project", away)
    assert (await agent.told("search", query="x")).startswith("unavailable")
    assert db.is_outage(ConnectionRefusedError())


async def test_what_clients_send_makes_no_lines_in_the_log(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    await agent.send(
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": "canary-in-the-log"}}
    )
    await agent.request("tools/call", name="canary-in-the-log", arguments={})
    assert "canary-in-the-log" not in caplog.text
    assert logging.getLogger("mcp").getEffectiveLevel() == logging.ERROR


async def test_a_trace_that_a_client_names_is_not_continued(agent_of: AgentOf, shelf: Library) -> None:
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    theirs, ours = "a" * 32, "b" * 32
    arguments = {"query": "granite", "project_id": str(shelf.project_id)}
    params = {"name": "search", "arguments": arguments, "_meta": {"traceparent": f"00-{theirs}-{'c' * 16}-01"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    try:
        answer = await agent_of(shelf).send(message, traceparent=f"00-{ours}-{'d' * 16}-01")
    finally:
        exporter.shutdown()
    assert answer.json()["result"]["structuredContent"]["results"]
    finished = [(span.name, span.get_span_context()) for span in exporter.get_finished_spans()]
    spans = {name: format(context.trace_id, "032x") for name, context in finished if context is not None}
    assert theirs not in spans.values()
    assert [spans[name] for name in ("POST /mcp", "execute_tool search", "search vectors")] == [ours] * 3
