"""The door for agents of others: the Model Context Protocol over stateless HTTP, spoken by its Python SDK, which only
this module knows.

One POST is one JSON-RPC message and gets one response in JSON. No session is kept and no stream is opened, so any
replica serves any request: the answer to GET and DELETE is 405, as the protocol wants of such a server. Clients of both
eras are served: those that begin with `initialize` (up to 2025-11-25), and those that say all about themselves in each
request (2026-07-28).

Guarantees: who calls was verified before the SDK sees the request, and tools are called as that principal. What goes
wrong in a tool is its result, with `isError`, so that a model can read it and do better; a defect says nothing about
itself. The trace is the gateway's: what a client sends as one is not continued.
Not used of the SDK: its list of allowed hosts (the gateway checks `Origin`, and a browser's cookie does not count
here), its authorization, subscriptions, and state of requests, which would need a key that all replicas share.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import mcp_types as protocol
import orjson
from fastapi.exceptions import RequestValidationError
from mcp.server import CacheHint, Server, ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import DBAPIError
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from services.indexing.agents.mcp import schemas, service
from services.indexing.agents.mcp.projects_client import Caller
from services.indexing.agents.mcp.service import Call, Services
from shared.background import run_in_background
from shared.db import is_outage
from shared.errors import QuarryError, Unavailable
from shared.problems import FieldErrors, shown
from shared.telemetry import get_logger, span

VERSION: Final = "0.1.0"
MOST_BYTES: Final = 64 * 1024
"""Of one message. The largest has a query and a filter."""

_INSTRUCTIONS: Final = (
    "Quarry holds projects of documents. search finds passages in a project by meaning and by words; fetch reads the "
    "text of a document by the id of a result; ask answers a question with quotes that were checked. list_projects and "
    "list_documents show what there is. Everything is read only, and is what the credential of this connection may see."
)
_READ_ONLY: Final = protocol.ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_LIST_KEPT_MS: Final = 3_600_000

InputT = TypeVar("InputT", bound=BaseModel)
_Context = ServerRequestContext[Any, Request]

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Tool(Generic[InputT]):
    """A tool: what it takes and gives, and the function behind it."""

    name: str
    title: str
    description: str
    takes: type[InputT]
    gives: type[BaseModel]
    run: Callable[[Services, Call, InputT], Awaitable[BaseModel]]

    async def call(self, tools: Services, call: Call, arguments: Mapping[str, Any]) -> BaseModel:
        return await self.run(tools, call, self.takes.model_validate(arguments))

    def described(self) -> protocol.Tool:
        return protocol.Tool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=self.takes.model_json_schema(),
            output_schema=self.gives.model_json_schema(mode="serialization"),
            annotations=_READ_ONLY,
        )


TOOLS: Final[tuple[_Tool[Any], ...]] = (
    _Tool(
        "search",
        "Search documents",
        "Find the passages of a project's documents that answer a question or contain words. Each result has an id for "
        "fetch, the document's name and the passage itself.",
        schemas.SearchInput,
        schemas.SearchOutput,
        service.search,
    ),
    _Tool(
        "fetch",
        "Read a document",
        f"Read the text of a document by the id of a search result or of a listed document; at most "
        f"{schemas.MOST_CHARACTERS} characters at a time.",
        schemas.FetchInput,
        schemas.FetchOutput,
        service.fetch,
    ),
    _Tool(
        "ask",
        "Ask a question",
        "Answer a question from the documents of a project, in a few sentences with citations. Every quote was found "
        "in the document it names; without evidence there is a refusal instead of an answer.",
        schemas.AskInput,
        schemas.AskOutput,
        service.ask,
    ),
    _Tool(
        "list_projects",
        "List projects",
        "List the projects that can be searched.",
        schemas.ListProjectsInput,
        schemas.ListProjectsOutput,
        service.list_projects,
    ),
    _Tool(
        "list_documents",
        "List documents",
        "List the documents of a project with their state: only indexed ones can be searched and read.",
        schemas.ListDocumentsInput,
        schemas.ListDocumentsOutput,
        service.list_documents,
    ),
)


class Door:
    """Serves the protocol. Made in the lifespan, and open within `running`."""

    def __init__(self, tools: Services) -> None:
        self._tools = tools
        self._by_name = {tool.name: tool for tool in TOOLS}
        self._listed = [tool.described() for tool in TOOLS]
        schemas_by_name = {tool.name: tool.input_schema for tool in self._listed}
        server: Server[Any] = Server(
            "quarry",
            title="Quarry",
            version=VERSION,
            instructions=_INSTRUCTIONS,
            on_list_tools=self._list,
            on_call_tool=self._call,
            get_tool_input_schema=schemas_by_name.get,
            cache_hints={"tools/list": CacheHint(ttl_ms=_LIST_KEPT_MS, scope="public")},
        )
        # The SDK's spans would continue a trace that the client names.
        server.middleware.clear()
        self._server = server
        self._manager: StreamableHTTPSessionManager | None = None
        self._opened = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Requests are served within the block."""
        async with run_in_background(self._run, name="mcp"):
            await self._opened.wait()
            yield

    async def _run(self) -> None:
        """In a task of its own: what the SDK begins for requests could otherwise cancel the lifespan."""
        manager = StreamableHTTPSessionManager(
            self._server, json_response=True, stateless=True, max_request_body_size=MOST_BYTES
        )
        async with manager.run():
            self._manager = manager
            self._opened.set()
            try:
                await asyncio.Event().wait()
            finally:
                self._manager = None

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST whose caller is verified: `principal` in the state of its scope.

        Raises:
            Unavailable: the door is not open.
        """
        if self._manager is None:
            raise Unavailable(retry_after=1)
        await self._manager.handle_request(scope, receive, send)

    async def _list(
        self, _context: _Context, _params: protocol.PaginatedRequestParams | None
    ) -> protocol.ListToolsResult:
        return protocol.ListToolsResult(tools=self._listed)

    async def _call(self, context: _Context, params: protocol.CallToolRequestParams) -> protocol.CallToolResult:
        tool = self._by_name.get(params.name)
        if tool is None:
            raise MCPError(protocol.INVALID_PARAMS, f"Unknown tool: {shown(params.name, 64)}")
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool.name}
        with span(f"execute_tool {tool.name}", attributes=attributes) as current:
            try:
                result = await tool.call(self._tools, _call_of(context), params.arguments or {})
            except (QuarryError, ValidationError, RequestValidationError) as error:
                refusal = _refusal(error)
            except (DBAPIError, ConnectionError) as error:
                if not is_outage(error):
                    raise _defect(tool.name, error) from error
                _log.warning("database_unavailable", tool=tool.name, reason=str(error)[:200])
                refusal = _refusal(Unavailable(retry_after=2))
            except Exception as error:
                raise _defect(tool.name, error) from error
            else:
                return _success(result)
            current.set_attribute("error.type", refusal.code)
            return protocol.CallToolResult(content=[_text(refusal.sentence)], is_error=True)


@dataclass(frozen=True, slots=True)
class _Refusal:
    code: str
    sentence: str


def _refusal(error: QuarryError | ValidationError | RequestValidationError) -> _Refusal:
    """What a model is told: the code, what it means, and what is wrong with which argument."""
    if not isinstance(error, QuarryError):
        found = FieldErrors()
        for item in error.errors():
            found.add([part for part in item["loc"] if part != "body"], item["msg"])
        error = found.of(QuarryError("The arguments are not valid."))
        code = "invalid_arguments"
    else:
        code = error.code
    parts = [f"{code}: {error.public_detail}", *(f"{each['field']}: {each['message']}" for each in error.errors)]
    if error.retry_after is not None:
        parts.append(f"Try again in {max(1, round(error.retry_after))} s.")
    return _Refusal(code, "\n".join(parts))


def _defect(tool: str, error: Exception) -> MCPError:
    _log.error("tool_crashed", tool=tool, exc_info=error)
    return MCPError(protocol.INTERNAL_ERROR, "Something went wrong on our side.")


def _success(result: BaseModel) -> protocol.CallToolResult:
    """As structure and, for clients that show text to a model, the same as text."""
    structure = result.model_dump(mode="json")
    return protocol.CallToolResult(content=[_text(orjson.dumps(structure).decode())], structured_content=structure)


def _text(text: str) -> protocol.TextContent:
    return protocol.TextContent(type="text", text=text)


def _call_of(context: _Context) -> Call:
    """Who calls: what the route has verified (`services.indexing.agents.mcp.router`)."""
    request = context.request
    if request is None:
        raise RuntimeError("a tool was called without a request")
    token = request.headers["authorization"].partition(" ")[2]
    # The gateway's own: it lets no client name a host.
    scheme = request.headers.get("x-forwarded-proto", request.url.scheme)
    host = request.headers.get("x-forwarded-host", request.url.netloc)
    state = request.scope["state"]
    return Call(Caller(state["principal"], token), f"{scheme}://{host}", state["request_id"])
