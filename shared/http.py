"""One HTTP application: middleware, problem documents, and what a router asks for. Sessions: `shared.sessions`.

Middleware is plain ASGI (the request-response kind of Starlette leaks database connections when a client goes away).
Every answer carries `X-Request-ID`; every error is an RFC 9457 problem document.
"""

import re
import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.auth import Principal, TokenVerifier
from shared.errors import QuarryError, Unauthenticated
from shared.telemetry import SpanKind, bind, get_logger, span

PROBLEM_JSON = "application/problem+json"
REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
# The only route with a secret in its path, and what comes near it: a slash too many, the secret where the id belongs.
_SECRET_IN_PATH = re.compile(r"(?<=^/v1/invitations/)(?![0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:/|$))[^/]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
_log = get_logger(__name__)


class Problem(BaseModel):
    """RFC 9457 problem document, as every error is answered."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[dict[str, Any]]


class Input(BaseModel):
    """Base of every request body: unknown fields are refused, not ignored."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


def one_line(value: str) -> str:
    """`value`, a name or an address, as a validator of a field of an `Input`. Postgres takes no NUL at all.

    Raises:
        ValueError: it holds a control character.
    """
    if _CONTROL.search(value):
        raise ValueError("control characters are not allowed")
    return value


def loggable_path(path: str) -> str:
    """`path` without the secret that one route carries in it."""
    return _SECRET_IN_PATH.sub("***", path)


# --- what routers ask for --------------------------------------------------------------------------------------------


def request_id_of(request: Request) -> str:
    return str(request.scope["state"]["request_id"])


async def _current_principal(request: Request) -> Principal:
    """The verified caller, from the internal token."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated
    verifier: TokenVerifier = request.app.state.runtime.verifier
    principal = await verifier.verify(token)
    request.scope["state"]["principal"] = principal
    return principal


CurrentPrincipal = Annotated[Principal, Depends(_current_principal)]


# --- problem documents -----------------------------------------------------------------------------------------------


def problem_response(
    request_id: str, instance: str, error: QuarryError, *, errors: Sequence[dict[str, Any]] = ()
) -> Response:
    document = Problem(
        type=f"https://quarry.dev/problems/{error.code}" if error.code else "about:blank",
        title=error.code.replace("_", " ").capitalize(),
        status=error.status,
        detail=error.public_detail,
        instance=instance,
        code=error.code,
        request_id=request_id,
        errors=list(errors),
    )
    headers = {"Cache-Control": "no-store"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(orjson.dumps(document.model_dump()), error.status, headers, PROBLEM_JSON)


def problem_of(request: Request, error: QuarryError, *, errors: Sequence[dict[str, Any]] = ()) -> Response:
    return problem_response(request_id_of(request), request.scope["path"], error, errors=errors)


async def _on_quarry_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, QuarryError)  # noqa: S101  # registered for this class only
    if error.status >= 500:
        _log.warning("request_failed", code=error.code, path=loggable_path(request.scope["path"]), exc_info=error)
    return problem_of(request, error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class only
    codes = {400: "invalid_request", 401: "unauthenticated", 404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "http_error")
    return problem_of(request, _status_error(error.status_code, code, str(error.detail)))


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this class only
    errors = [{"field": ".".join(str(part) for part in item["loc"]), "message": item["msg"]} for item in error.errors()]
    invalid = _status_error(422, "validation_failed", "The request does not fit the schema.")
    return problem_of(request, invalid, errors=errors)


async def _on_crash(request: Request, error: Exception) -> Response:
    _log.error("request_crashed", path=loggable_path(request.scope["path"]), exc_info=error)
    return problem_of(request, QuarryError())


def _status_error(status: int, code: str, detail: str) -> QuarryError:
    error = QuarryError(detail)
    error.status, error.code = status, code  # type: ignore[misc]  # this instance only: the class is the general case
    return error


def install_problem_documents(app: FastAPI) -> None:
    """Render every error of `app` in one place."""
    app.add_exception_handler(QuarryError, _on_quarry_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(Exception, _on_crash)


# --- middleware ------------------------------------------------------------------------------------------------------


class RequestContext:
    """Request id, server span and access log around every request. Continues the caller's trace."""

    def __init__(self, app: ASGIApp, *, trust_request_id: bool = True) -> None:
        self._app = app
        self._trust_request_id = trust_request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"").decode("latin-1")
        if not (self._trust_request_id and REQUEST_ID.match(request_id)):
            request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        parent = headers.get(b"traceparent", b"").decode("latin-1") or None
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
                if scope["path"] not in _QUIET_PATHS:
                    self._log_access(scope, path, status, started)

    @staticmethod
    def _log_access(scope: Scope, path: str, status: int, started: float) -> None:
        principal: Principal | None = scope["state"].get("principal")
        _log.info(
            "request",
            method=scope["method"],
            path=path,
            status=status,
            duration_ms=round((time.perf_counter() - started) * 1000, 1),
            tenant_id=str(principal.tenant_id) if principal else None,
            user_id=str(principal.user_id) if principal and principal.user_id else None,
        )
