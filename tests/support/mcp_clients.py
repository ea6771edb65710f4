"""The Python client of the Model Context Protocol, as its users have it: with a URL and a key."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

ERAS: Final = ("legacy", "2026-07-28")


@asynccontextmanager
async def connected(url: str, credential: str, era: str = "auto") -> AsyncIterator[Client]:
    """A client of the gateway at `url`. `era`: "legacy" for the handshake, a version for requests that need none."""
    headers = {"Authorization": f"Bearer {credential}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=era) as client,
    ):
        yield client


async def used(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structure that a tool gives."""
    result = await client.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    assert not result.is_error, result.content
    structure: dict[str, Any] = result.structured_content
    return structure


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    """What a tool says instead of giving anything."""
    result = await client.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    assert result.is_error and result.structured_content is None, result
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text
