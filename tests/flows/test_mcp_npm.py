"""Clients from the npm registry, unchanged: the protocol's own SDK for TypeScript, and its suite for conformance."""

import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from infra.local.home import ROOT
from tests.support import npm
from tests.support.documents import note
from tests.support.serving import serve
from tests.support.sse import listening
from tests.support.system import System, create_project, upload

pytestmark = [pytest.mark.long, pytest.mark.timeout(420)]

CLIENTS = ROOT / "tests" / "flows" / "npm_clients"
# Those of the suite that need no tools, resources or prompts made for it. One without sessions is none of
# `server-sse-polling`, which asks for a stream that is resumed.
SCENARIOS = ("server-initialize", "ping", "tools-list", "dns-rebinding-protection", "server-sse-multiple-streams")


@pytest.fixture(scope="module")
async def clients(folders: Callable[[str], Path]) -> Path:
    return await npm.installed(CLIENTS, folders("npm"))


@pytest.fixture(scope="module")
async def owner(system: System) -> httpx.AsyncClient:
    _, client = await system.tenant(f"npm-{uuid.uuid4().hex[:8]}")
    return client


async def test_the_typescript_client_lists_and_calls_every_tool(
    system: System, owner: httpx.AsyncClient, clients: Path
) -> None:
    project = await create_project(owner, "Notes")
    async with listening(owner, f"/v1/projects/{project}/events") as live:
        document = await upload(owner, project, "note.txt", note(11))
        await live.until(lambda seen: seen.of("document.indexed"))
    calls = [
        {"name": "list_projects", "arguments": {}},
        {"name": "list_documents", "arguments": {"project_id": project}},
        {"name": "search", "arguments": {"query": "marker000011", "project_id": project, "mode": "keyword"}},
        {"name": "fetch", "arguments": {"id": f"{project}/{document}"}},
        {"name": "ask", "arguments": {"question": "What is marker000011?", "project_id": project}},
        {"name": "fetch", "arguments": {"id": f"{project}/{uuid.uuid4()}"}},
    ]
    key = owner.headers["Authorization"].removeprefix("Bearer ")
    plan = {"url": f"{system.url}/mcp", "key": key, "calls": calls}
    output = await npm.run(["node_modules/.bin/node", "call_tools.mjs"], clients, given=json.dumps(plan).encode())
    told = json.loads(output)
    assert told["server"]["name"] == "quarry"
    assert {tool["name"] for tool in told["tools"]} == {call["name"] for call in calls}
    listed, documents, found, fetched, asked, missing = told["results"]
    assert asked["structuredContent"]["status"] == "completed"
    assert [item["id"] for item in listed["structuredContent"]["projects"]] == [project]
    assert [item["document_id"] for item in documents["structuredContent"]["documents"]] == [document]
    assert found["structuredContent"]["results"][0]["document_id"] == document
    assert fetched["structuredContent"]["text"].split() == note(11).decode().split()
    assert missing["isError"] and missing["content"][0]["text"].startswith("not_found")


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_the_door_conforms(system: System, owner: httpx.AsyncClient, clients: Path, scenario: str) -> None:
    async with _signing_in(system.url, owner.headers["Authorization"]) as url:
        command = ["node_modules/.bin/node", "node_modules/@modelcontextprotocol/conformance/dist/index.js", "server"]
        await npm.run([*command, "--url", f"{url}/mcp", "--scenario", scenario], clients)


@asynccontextmanager
async def _signing_in(gateway: str, authorization: str) -> AsyncIterator[str]:
    """A reverse proxy that adds the credential, which the suite cannot send; what it is called is the gateway to it."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        own = ""

        async def forward(scope: Scope, receive: Receive, send: Send) -> None:
            body = b""
            while (message := await receive())["type"] == "http.request":
                body += message["body"]
                if not message.get("more_body"):
                    break
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            headers["authorization"] = authorization
            if headers.get("origin") == own:
                headers |= {"origin": gateway, "host": gateway.partition("://")[2]}
            async with http.request(scope["method"], f"{gateway}{scope['path']}", headers=headers, data=body) as answer:
                content = await answer.read()
                kept = [
                    (name.lower(), value)
                    for name, value in answer.raw_headers
                    if name.lower() not in (b"transfer-encoding", b"content-length", b"connection")
                ]
                await send({"type": "http.response.start", "status": answer.status, "headers": kept})
                await send({"type": "http.response.body", "body": content})

        own = await stack.enter_async_context(serve(Starlette(routes=[Mount("/", app=forward)])))
        yield own
