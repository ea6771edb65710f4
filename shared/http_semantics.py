"""What a request must keep to before its route runs, the same on every route of every service.

- `HEAD` gets the response to `GET`, without the body; `OPTIONS` gets the methods there are; any other method gets 405.
  Both name them in `Allow`. `Range` means nothing to `HEAD` (RFC 9110, section 14.2).
- Query parameters that the route does not declare are refused, and so is one given twice.
- JSON bodies keep to `shared.json_bodies`.
- A `GET` whose response has an `ETag` heeds `If-Match` and `If-None-Match` (RFC 9110, section 13.1).
- An extra slash at the end redirects to the path without it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import parse_qsl, quote

from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared import json_bodies
from shared.errors import InvalidRequest, PreconditionFailed, QuarryError
from shared.etags import names, names_strongly
from shared.problems import FieldErrors, problem_response
from shared.route_introspection import Place, RouteTable

MAX_QUERY_PARAMETERS: Final = 100
_RANGE_HEADERS: Final = frozenset({b"range", b"if-range"})
_CONDITIONS: Final = frozenset({b"if-match", b"if-none-match"})
# Headers of a body that is not sent; the others go with a 304 (RFC 9110, section 15.4.5).
_OF_THE_BODY: Final = frozenset({b"content-length", b"content-type", b"content-encoding"})
_HEAD: Final = "head_request"


class MethodNotAllowed(InvalidRequest):
    status = 405
    code = "method_not_allowed"
    detail = "This method is not allowed here; the Allow header lists those that are."

    def __init__(self, allow: str) -> None:
        super().__init__()
        self.headers["Allow"] = allow


class QueryNotUnderstood(InvalidRequest):
    status = 422
    code = "validation_failed"
    detail = "The query parameters are not valid for this route."


def wants_body(scope: Scope) -> bool:
    """Whether the body of the response is sent at all. A response whose body is costly checks this first."""
    return not scope["state"].get(_HEAD, False)


class RequestRules:
    """ASGI middleware for the routes of `routers`. Other paths pass."""

    def __init__(self, app: ASGIApp, *, routers: Iterable[APIRouter]) -> None:
        self._app = app
        self._table = RouteTable(routers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        place = self._table.find(scope["path"]) if scope["type"] == "http" else None
        if place is not None:
            await self._by_the_rules(place, scope, receive, send)
        elif scope["type"] == "http" and self._is_a_slash_away(scope["path"]):
            await _redirect(scope)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _by_the_rules(self, place: Place, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        rules = place.rules.get(method)
        if rules is None and method == "OPTIONS":
            await Response(status_code=204, headers={"Allow": place.allow})(scope, receive, send)
            return
        try:
            if rules is None:
                raise MethodNotAllowed(place.allow)
            if scope["query_string"] and rules.query is not None:
                check_query(scope["query_string"], rules.query)
            if rules.json_bytes is not None:
                receive = await json_bodies.received(
                    scope, receive, most_bytes=rules.json_bytes, look_inside=not rules.unparsed
                )
        except QuarryError as error:
            await problem_response(scope["state"]["request_id"], scope["path"], error)(scope, receive, send)
            return
        scope["route"] = rules.route
        if method == "HEAD":
            scope = _as_get(scope)
        if method == "HEAD" or (method == "GET" and _has_any(scope, _CONDITIONS)):
            send = _Conditional(scope, receive, send, with_body=method == "GET").send
        await self._app(scope, receive, send)

    def _is_a_slash_away(self, path: str) -> bool:
        return path.endswith("/") and self._table.find(path.rstrip("/")) is not None


def check_query(query_string: bytes, known: Mapping[str, bool]) -> None:
    """Raises QueryNotUnderstood: a parameter is not `known`, or there twice where only one may be."""
    try:
        pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_PARAMETERS)
    except ValueError as error:
        raise QueryNotUnderstood(f"The query has more than {MAX_QUERY_PARAMETERS} parameters.") from error
    found = FieldErrors()
    for name, count in Counter(name for name, _ in pairs).items():
        if name not in known:
            found.add(("query", name), "unknown query parameter")
        elif count > 1 and not known[name]:
            found.add(("query", name), "this parameter may be given only once")
    if found.count:
        raise found.of(QueryNotUnderstood())


class _Conditional:
    """`send` for the response to a GET or HEAD, whose body may turn out not to be needed."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, with_body: bool) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._with_body = with_body
        self._refused = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send_head(message)
        elif message["type"] != "http.response.body" or (self._with_body and not self._refused):
            await self._send(message)
        elif not message.get("more_body", False) and not self._refused:
            await self._send({"type": "http.response.body", "body": b""})

    async def _send_head(self, message: Message) -> None:
        tag = Headers(raw=message.get("headers", [])).get("etag")
        asked = Headers(scope=self._scope)
        if message["status"] != 200 or tag is None:
            await self._send(message)
        elif "if-match" in asked and not names_strongly(asked["if-match"], tag):
            self._refused = True
            error = PreconditionFailed()
            answer = problem_response(self._scope["state"]["request_id"], self._scope["path"], error)
            await self._send({"type": "http.response.start", "status": error.status, "headers": answer.raw_headers})
            await self._send({"type": "http.response.body", "body": answer.body if self._with_body else b""})
        elif "if-none-match" in asked and names(asked["if-none-match"], tag):
            self._with_body = False
            headers = [(name, value) for name, value in message["headers"] if name.lower() not in _OF_THE_BODY]
            await self._send({**message, "status": 304, "headers": headers})
        else:
            await self._send(message)


def _as_get(scope: Scope) -> Scope:
    """A HEAD request as the routes see it: a GET whose body is not read, and of which no range can be requested."""
    scope["state"][_HEAD] = True
    headers = [(name, value) for name, value in scope["headers"] if name not in _RANGE_HEADERS]
    return {**scope, "method": "GET", "headers": headers}


def _has_any(scope: Scope, names: frozenset[bytes]) -> bool:
    return any(name in names for name, _ in scope["headers"])


def _redirect(scope: Scope) -> Response:
    """Relative, so that it works at whatever address the client used."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
    query: bytes = scope["query_string"]
    location = b"?".join(part for part in (raw.rstrip(b"/"), query) if part)
    return Response(status_code=307, headers={"Location": location.decode("latin-1")})
