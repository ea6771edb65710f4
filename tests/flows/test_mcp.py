"""Agents of others: the Python client of the Model Context Protocol calls every tool through the gateway."""

import asyncio
import json
import re
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from mcp_types import CallToolResult, TextContent

from infra.local.home import ROOT
from tests.support.documents import note
from tests.support.mcp_clients import ERAS, connected, refused, used
from tests.support.remote_system import Product
from tests.support.sse import listening
from tests.support.system import create_project, upload

pytestmark = pytest.mark.system

TEXT = "The heron waits at the weir.\n\nIt eats eels, and once it ate a shoe.\n" * 3


@dataclass(frozen=True)
class Owner:
    """A tenant's owner: the public API, and the key that agents are given."""

    api: httpx.AsyncClient
    url: str
    key: str
    project: str
    document: str

    async def restricted(self, *scopes: str, project: str | None = None) -> str:
        """Another key, for less."""
        wanted = {"name": "agent", "scopes": list(scopes), "project_id": project}
        answer = await self.api.post("/v1/api-keys", json=wanted)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])


@pytest.fixture(scope="module")
async def owner(product: Product) -> Owner:
    _, api = await product.tenant(f"agents-{uuid.uuid4().hex[:8]}")
    project = await create_project(api, "Birds")
    async with listening(api, f"/v1/projects/{project}/events") as live:
        document = await upload(api, project, "heron.txt", TEXT.encode())
        await live.until(lambda seen: seen.of("document.indexed"))
    key = api.headers["Authorization"].removeprefix("Bearer ")
    return Owner(api, str(api.base_url).rstrip("/"), key, project, document)


@pytest.fixture(scope="module")
async def stranger(product: Product) -> AsyncIterator[Owner]:
    """The owner of another tenant, with a document of the same words."""
    _, api = await product.tenant(f"strangers-{uuid.uuid4().hex[:8]}")
    project = await create_project(api, "Other birds")
    async with listening(api, f"/v1/projects/{project}/events") as live:
        document = await upload(api, project, "other heron.txt", TEXT.replace("shoe", "glove").encode())
        await live.until(lambda seen: seen.of("document.indexed"))
    key = api.headers["Authorization"].removeprefix("Bearer ")
    yield Owner(api, str(api.base_url).rstrip("/"), key, project, document)


@pytest.mark.parametrize("era", ERAS)
async def test_an_agent_finds_a_passage_and_reads_its_document(owner: Owner, era: str) -> None:
    async with connected(owner.url, owner.key, era) as agent:
        found = await used(agent, "search", query="What did the heron eat?", project_id=owner.project)
        best = found["results"][0]
        assert best["title"] == "heron.txt"
        assert (best["project_id"], best["document_id"], best["version"]) == (owner.project, owner.document, 1)
        assert "eels" in best["text"]
        whole = await used(agent, "fetch", id=best["id"])
        assert whole["id"] == best["id"]
        assert whole["text"].split() == TEXT.split()
        assert (whole["start"], whole["end"], whole["next_chunk"]) == (0, len(TEXT.strip()), None)
        content = await owner.api.get(whole["url"])
        assert content.text == TEXT


@pytest.mark.parametrize("era", ERAS)
async def test_an_agent_is_answered_with_quotes_that_stand_in_the_document(owner: Owner, era: str) -> None:
    async with connected(owner.url, owner.key, era) as agent:
        told = await used(agent, "ask", question="What does the heron eat?", project_id=owner.project)
        assert (told["status"], told["refusal"], told["grounding"]) == ("completed", None, "full")
        assert "eels" in told["text"]
        for cited in told["citations"]:
            assert cited["title"] == "heron.txt"
            assert TEXT[cited["start"] : cited["end"]] == cited["quote"]
            assert (await used(agent, "fetch", id=cited["id"]))["title"] == "heron.txt"
        run = await owner.api.get(f"/v1/projects/{owner.project}/runs/{told['run_id']}")
        assert run.json()["status"] == "completed"
        nothing = await used(
            agent, "ask", question="When was the treaty of Tordesillas signed?", project_id=owner.project
        )
        assert nothing["text"] is None and nothing["refusal"]


@pytest.mark.parametrize("era", ERAS)
async def test_an_agent_sees_what_there_is(owner: Owner, era: str) -> None:
    async with connected(owner.url, owner.key, era) as agent:
        (project,) = (await used(agent, "list_projects"))["projects"]
        assert (project["id"], project["name"], project["role"]) == (owner.project, "Birds", "owner")
        listed = await used(agent, "list_documents", project_id=owner.project)
        (document,) = listed["documents"]
        assert (document["name"], document["status"], document["version"]) == ("heron.txt", "indexed", 1)
        assert (await used(agent, "fetch", id=document["id"]))["title"] == "heron.txt"


@pytest.mark.parametrize("era", ERAS)
async def test_every_tool_says_what_it_takes_and_gives_and_that_it_only_reads(owner: Owner, era: str) -> None:
    async with connected(owner.url, owner.key, era) as agent:
        tools = (await agent.list_tools()).tools
    assert [tool.name for tool in tools] == ["search", "fetch", "ask", "list_projects", "list_documents"]
    for tool in tools:
        assert tool.description and tool.output_schema is not None
        assert tool.input_schema["additionalProperties"] is False
        assert tool.annotations is not None and tool.annotations.read_only_hint is True


async def test_what_a_tool_gives_is_there_as_text_too(owner: Owner) -> None:
    """Connectors of chat products read the first text."""
    async with connected(owner.url, owner.key) as agent:
        result = await agent.call_tool("search", {"query": "heron"})
    assert isinstance(result, CallToolResult)
    (content,) = result.content
    assert isinstance(content, TextContent)
    assert json.loads(content.text) == result.structured_content
    assert {"id", "title", "url", "text"} <= json.loads(content.text)["results"][0].keys()


async def test_the_project_may_be_left_out_where_it_is_clear(owner: Owner) -> None:
    async with connected(owner.url, owner.key) as agent:
        assert (await used(agent, "search", query="heron"))["results"]
    tied = await owner.restricted("search", project=owner.project)
    async with connected(owner.url, tied) as agent:
        assert (await used(agent, "search", query="heron"))["results"]
    second = await create_project(owner.api, "Fish")
    try:
        async with connected(owner.url, owner.key) as agent:
            told = await refused(agent, "search", query="heron")
            assert told.startswith("project_required")
            assert f"{second} (Fish)" in told and f"{owner.project} (Birds)" in told
        async with connected(owner.url, await owner.restricted("search")) as agent:
            assert (await refused(agent, "search", query="heron")).startswith("project_required")
    finally:
        project = await owner.api.get(f"/v1/projects/{second}")
        await owner.api.delete(f"/v1/projects/{second}", headers={"If-Match": project.headers["ETag"]})


async def test_scopes_mean_what_they_mean_elsewhere(owner: Owner) -> None:
    document = f"{owner.project}/{owner.document}"
    async with connected(owner.url, await owner.restricted("search")) as agent:
        assert (await used(agent, "search", query="heron", project_id=owner.project))["results"]
        assert (await refused(agent, "fetch", id=document)).startswith("forbidden")
        assert (await refused(agent, "list_projects")).startswith("forbidden")
        assert (await refused(agent, "list_documents", project_id=owner.project)).startswith("forbidden")
    async with connected(owner.url, await owner.restricted("documents:read")) as agent:
        assert (await refused(agent, "search", query="heron", project_id=owner.project)).startswith("forbidden")
        assert (await used(agent, "fetch", id=document))["title"] == "heron.txt"


async def test_two_tenants_see_nothing_of_each_other(owner: Owner, stranger: Owner) -> None:
    for mine, theirs in ((owner, stranger), (stranger, owner)):
        passage, invented = f"{theirs.project}/{theirs.document}/1/0", f"{uuid.uuid4()}/{uuid.uuid4()}/1/0"
        async with connected(mine.url, mine.key) as agent:
            assert [item["id"] for item in (await used(agent, "list_projects"))["projects"]] == [mine.project]
            found = await used(agent, "search", query="What did the heron eat?")
            assert {item["document_id"] for item in found["results"]} == {mine.document}
            for tool, given in (
                ("search", {"query": "heron", "project_id": theirs.project}),
                ("list_documents", {"project_id": theirs.project}),
                ("ask", {"question": "What did the heron eat?", "project_id": theirs.project}),
                ("fetch", {"id": passage}),
                ("fetch", {"id": passage.removesuffix("/1/0")}),
                ("fetch", {"id": f"{mine.project}/{theirs.document}"}),
            ):
                missing = {**given, **({"id": invented} if "id" in given else {"project_id": str(uuid.uuid4())})}
                told = await refused(agent, tool, **given)
                assert told.startswith("not_found")
                assert told == await refused(agent, tool, **missing)


async def test_a_long_document_is_read_in_parts(owner: Owner) -> None:
    text = note(5, size=100_000).decode()
    async with listening(owner.api, f"/v1/projects/{owner.project}/events") as live:
        document = await upload(owner.api, owner.project, "long.txt", text.encode())
        await live.until(lambda seen: seen.of("document.indexed"))
    identifier, parts, following = f"{owner.project}/{document}", [], None
    async with connected(owner.url, owner.key) as agent:
        while True:
            part = await used(agent, "fetch", id=identifier, **({"from_chunk": following} if following else {}))
            assert len(part["text"]) == part["end"] - part["start"] <= 32_000
            assert part["text"].split() == text[part["start"] : part["end"]].split()
            parts.append(part["text"])
            following = part["next_chunk"]
            if following is None:
                break
        assert len(parts) == 4
        assert " ".join(parts).split() == text.split()
        far = await used(agent, "fetch", id=f"{identifier}/1/100")
        assert 0 < far["start"] < 100 * 720
        assert (await refused(agent, "fetch", id=f"{identifier}/1/9999")).startswith("not_found")
        assert (await refused(agent, "fetch", id=f"{identifier}/2/0")).startswith("version_replaced")


async def test_what_the_page_shows_works(owner: Owner, tmp_path: Path) -> None:
    """Each block of docs/agents.md, in a folder where `uv run dev` has left what it leaves."""
    (tmp_path / ".quarry").mkdir()
    (tmp_path / ".quarry" / "dev.json").write_text(json.dumps({"gateway_url": owner.url, "api_key": owner.key}))
    page = (ROOT / "docs" / "agents.md").read_text().partition("## Connect an MCP client")[2]
    blocks = re.findall(r"```(sh|python)\n(.*?)```", page, re.DOTALL)
    assert [language for language, _ in blocks] == ["sh", "sh", "python"]
    configured, called, listed = [
        await command_output(["bash", "-c", code] if language == "sh" else [sys.executable, "-c", code], tmp_path)
        for language, code in blocks
    ]
    server = json.loads(configured)["mcpServers"]["quarry"]
    assert server["url"] == f"{owner.url}/mcp"
    assert server["headers"]["Authorization"] == f"Bearer {owner.key}"
    assert "Birds" in called and "Birds" in listed


async def command_output(command: list[str], folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, command
    return output.decode()


@pytest.mark.parametrize("era", ERAS)
async def test_wrong_arguments_are_explained(owner: Owner, era: str) -> None:
    async with connected(owner.url, owner.key, era) as agent:
        told = await refused(agent, "search", query="", limit=500, tenant_id=str(uuid.uuid4()))
        assert told.startswith("invalid_arguments")
        assert all(name in told for name in ("query", "limit", "tenant_id"))
        told = await refused(agent, "search", query="heron", filter={"field": "tenant_id", "eq": "x"})
        assert told.startswith("invalid_arguments") and "filter" in told
        assert (await refused(agent, "search", query="heron", cursor="forged")).startswith("invalid_cursor")
        assert (await refused(agent, "list_projects", cursor="forged")).startswith("invalid_")
        for identifier in ("nothing", f"{owner.project}", f"{owner.project}/{owner.document}/1", "../../etc/passwd"):
            assert (await refused(agent, "fetch", id=identifier)).startswith("not_found")
