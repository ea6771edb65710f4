"""HTTP route of the Model Context Protocol."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.types import Message, Receive, Scope, Send

from services.indexing.agents.mcp.dependencies import OpenDoor
from services.indexing.agents.mcp.door import MOST_BYTES, Door
from shared import json_bodies
from shared.current_principal import CurrentPrincipal

router = APIRouter(tags=["Agents"])

_MESSAGE: Final = {
    "type": "object",
    "description": "A JSON-RPC 2.0 request or notification of the Model Context Protocol",
    "required": ["jsonrpc", "method"],
    "properties": {
        "jsonrpc": {"const": "2.0"},
        "id": {"type": ["integer", "string"]},
        "method": {"type": "string", "examples": ["initialize", "server/discover", "ping", "tools/list", "tools/call"]},
        "params": {"type": "object"},
    },
}
_DOCUMENTED: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": _MESSAGE}}}
}
_ANSWER: Final = {"schema": {"type": "object", "description": "A JSON-RPC 2.0 response"}}
_ERROR: Final = {"application/json": _ANSWER, "application/problem+json": {"schema": {"type": "object"}}}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The response to a request", "content": {"application/json": _ANSWER}},
    202: {"description": "A notification was taken"},
    400: {"description": "The message or its headers are not valid", "content": _ERROR},
    404: {"description": "There is no such method", "content": _ERROR},
    406: {"description": "The client does not accept JSON", "content": _ERROR},
}


class _Conversation(Response):
    """The response that the protocol's own implementation gives."""

    def __init__(self, door: Door, receive: Receive) -> None:
        super().__init__()
        self._door = door
        self._body = receive

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        async def send_numbers(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The SDK's is an enumeration, which logs would show as such.
                message["status"] = int(message["status"])
            await send(message)

        await self._door.serve(scope, self._body, send_numbers)


@router.post("/mcp", response_model=None, openapi_extra=_DOCUMENTED, responses=_RESPONSES)
async def serve_mcp(request: Request, _principal: CurrentPrincipal, door: OpenDoor) -> Response:
    """The Model Context Protocol over stateless HTTP: tools that search and read, for agents of others."""
    body = await json_bodies.received(request.scope, request.receive, most_bytes=MOST_BYTES)
    return _Conversation(door, body)
