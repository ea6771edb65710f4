"""Middleware around every request: its id, its server span and its line in the access log.

Plain ASGI: the request-response kind of Starlette leaks database connections when a client goes away.
"""

import re
import time
import uuid
from collections.abc import Callable, Mapping

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.auth import Principal
from shared.invalidations import PATH as PATH_OF_INVALIDATIONS
from shared.telemetry import SpanKind, bind, get_logger, span

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
MOST_OF_A_PATH_LOGGED = 256
MOST_OF_A_REASON_LOGGED = 200
# The only route with a secret in its path, and near misses: a slash too many, the secret where the id belongs.
_SECRET_IN_PATH = re.compile(r"(?<=^/v1/invitations/)(?![0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:/|$))[^/]+")
_QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics", f"{PATH_OF_INVALIDATIONS}/lease"})
_log = get_logger(__name__)


def request_id_of(request: Request) -> str:
    return str(request.scope["state"]["request_id"])


def loggable_path(path: str) -> str:
    """The beginning of `path`, without the secret that one route carries in it."""
    path = _SECRET_IN_PATH.sub("***", path)
    return path if len(path) <= MOST_OF_A_PATH_LOGGED else f"{path[:MOST_OF_A_PATH_LOGGED]}…[{len(path)}]"


def note_failure(scope: Scope, code: str, reason: str) -> None:
    """Add what went wrong, `error` and `reason`, to the request's line in the access log, which becomes a warning. A
    second line would be more than a client may cause."""
    scope["state"]["failure"] = {"error": code, "reason": reason[:MOST_OF_A_REASON_LOGGED]}


class RequestContext:
    """Request id, server span and access log around every request.

    Args:
        continue_trace: whether the caller's `traceparent` counts: another service's does, a client's does not.
        is_logged: decides by scope and status whether a finished request has a line in the access log.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        trust_request_id: bool = True,
        continue_trace: bool = True,
        is_logged: Callable[[Scope, int], bool] | None = None,
    ) -> None:
        self._app = app
        self._trust_request_id = trust_request_id
        self._continue_trace = continue_trace
        self._is_logged = is_logged

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"").decode("latin-1")
        if not (self._trust_request_id and REQUEST_ID.match(request_id)):
            request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        parent = headers.get(b"traceparent", b"").decode("latin-1") if self._continue_trace else ""
        started = time.perf_counter()
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        path = loggable_path(scope["path"])
        name = f"{scope['method']} {path}"
        with bind(request_id=request_id), span(name, parent=parent, kind=SpanKind.SERVER) as current:
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                current.set_attribute("http.response.status_code", status)
                failure = scope["state"].get("failure", {})
                loud = failure or scope["path"] not in _QUIET_PATHS
                if loud and (self._is_logged is None or self._is_logged(scope, status)):
                    self._log_access(scope, path, status, started, failure)

    @staticmethod
    def _log_access(scope: Scope, path: str, status: int, started: float, failure: Mapping[str, str]) -> None:
        principal: Principal | None = scope["state"].get("principal")
        write = _log.warning if failure else _log.info
        write(
            "request",
            method=scope["method"],
            path=path,
            status=status,
            duration_ms=round((time.perf_counter() - started) * 1000, 1),
            tenant_id=str(principal.tenant_id) if principal else None,
            user_id=str(principal.user_id) if principal and principal.user_id else None,
            **failure,
        )
