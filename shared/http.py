"""One HTTP application: middleware, problem documents, and what routers depend on. Sessions: `shared.sessions`.

Middleware is plain ASGI (the request-response kind of Starlette leaks database connections when a client goes away).
Every response carries `X-Request-ID`; every error is an RFC 9457 problem document.
"""

import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, model_validator
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.auth import Principal, PrincipalKind, TokenVerifier
from shared.errors import Forbidden, QuarryError, Unauthenticated, Unavailable
from shared.invalidations import PATH as PATH_OF_INVALIDATIONS
from shared.lifespan_state import from_lifespan
from shared.service_permissions import Operation
from shared.telemetry import SpanKind, bind, get_logger, span

INTERNAL_PATHS = "/internal/"
CONTINUES = "X-Quarry-Continue"
"""Header of a service's response whose body another service sends, at the path in it. For the gateway alone."""

PROBLEM_JSON = "application/problem+json"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
MOST_OF_A_PATH_LOGGED = 256
# The only route with a secret in its path, and near misses: a slash too many, the secret where the id belongs.
_SECRET_IN_PATH = re.compile(r"(?<=^/v1/invitations/)(?![0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:/|$))[^/]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")
_OUT_OF_RANGE = "the time is out of range"
MAX_SHOWN_ERRORS = 20
MAX_SHOWN_LENGTH = 200
_QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics", f"{PATH_OF_INVALIDATIONS}/lease"})
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
    """Base of every request body: unknown fields are refused, not ignored; many of them all at once."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    @model_validator(mode="before")
    @classmethod
    def _few_unknown_fields(cls, value: Any) -> Any:
        """Each unknown field is an error of its own, so they are counted before they are looked at."""
        return few_unknown_fields(value, cls)


def few_unknown_fields(value: Any, model: type[BaseModel]) -> Any:
    """For a validator of `model` that runs before all others.

    Raises:
        ValueError: `value` has so many more fields than `model` that naming them one by one is of no use.
    """
    most = len(model.model_fields) + MAX_SHOWN_ERRORS
    if isinstance(value, dict) and len(value) > most:
        raise ValueError(f"there are {len(value)} fields, but only {len(model.model_fields)} are known")
    return value


def one_line(value: str) -> str:
    """`value`, a name or an address, as a validator of a field of an `Input`. Postgres accepts no NUL.

    Raises:
        ValueError: it holds a control character.
    """
    if _CONTROL.search(value):
        raise ValueError("control characters are not allowed")
    return value


def _written_as_a_time(value: Any) -> Any:
    if not isinstance(value, datetime) and not (isinstance(value, str) and _TIME.match(value)):
        raise ValueError("expected an RFC 3339 date and time")
    return value


def _storable(value: datetime) -> datetime:
    try:
        moment = value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(_OUT_OF_RANGE) from error
    # Drivers take moments in the first and the last year for infinity.
    if not MINYEAR < moment.year < MAXYEAR:
        raise ValueError(_OUT_OF_RANGE)
    return moment


Moment = Annotated[AwareDatetime, BeforeValidator(_written_as_a_time), AfterValidator(_storable)]
"""A time in a request, in UTC: every store can hold it and compare it with others."""


def loggable_path(path: str) -> str:
    """The beginning of `path`, without the secret that one route carries in it."""
    path = _SECRET_IN_PATH.sub("***", path)
    return path if len(path) <= MOST_OF_A_PATH_LOGGED else f"{path[:MOST_OF_A_PATH_LOGGED]}…[{len(path)}]"


# --- what routers ask for --------------------------------------------------------------------------------------------


def request_id_of(request: Request) -> str:
    return str(request.scope["state"]["request_id"])


async def _current_principal(request: Request) -> Principal:
    """The verified caller, from the internal token."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated
    principal = await from_lifespan(request, "verifier", TokenVerifier).verify(token)
    _require_own_routes(principal, request.scope["path"])
    request.scope["state"]["principal"] = principal
    return principal


def _require_own_routes(principal: Principal, path: str) -> None:
    """Services have routes of their own, whatever else their token says; clients have all others.

    Raises:
        Forbidden: the route is for the other kind of caller.
    """
    if (principal.kind is PrincipalKind.SERVICE) is not path.startswith(INTERNAL_PATHS):
        raise Forbidden


CurrentPrincipal = Annotated[Principal, Depends(_current_principal)]


def operation(required: Operation) -> Any:
    """The dependency of an internal route: a service whose token names that operation."""

    async def require(principal: CurrentPrincipal) -> Principal:
        principal.require_operation(required)
        return principal

    require.operation = required  # type: ignore[attr-defined]  # what the catalogue of internal routes reads
    return Depends(require)


# --- problem documents -----------------------------------------------------------------------------------------------


class FieldErrors:
    """What is wrong with the parts of one request. The first few are named, the rest counted; of each name that a
    client sent, only a few characters are repeated to it."""

    def __init__(self) -> None:
        self.count = 0
        self._named: list[dict[str, Any]] = []

    def add(self, where: Sequence[str | int], message: str) -> None:
        self.count += 1
        if self.count <= MAX_SHOWN_ERRORS:
            field = ".".join(shown(str(part), 64) for part in where[:16])
            self._named.append({"field": shown(field), "message": shown(message)})

    def of(self, error: QuarryError) -> QuarryError:
        """`error`, with these field errors added."""
        if self.count > len(self._named):
            error.public_detail += f" Only the first {len(self._named)} of {self.count} errors are listed."
        error.errors = self._named
        return error


def shown(text: str, most: int = MAX_SHOWN_LENGTH) -> str:
    """`text`, which may be a client's, in a form that is safe in a response."""
    clean = _UNPRINTABLE.sub("\ufffd", text[: most + 1])
    return clean if len(clean) <= most else clean[: most - 1] + "\u2026"


def problem_response(request_id: str, instance: str, error: QuarryError) -> Response:
    document = Problem(
        type=f"https://quarry.dev/problems/{error.code}" if error.code else "about:blank",
        title=error.code.replace("_", " ").capitalize(),
        status=error.status,
        detail=shown(error.public_detail, 2 * MAX_SHOWN_LENGTH),
        instance=quote(instance[:MAX_SHOWN_LENGTH], safe="/:@!$&'()*+,;=~"),
        code=error.code,
        request_id=request_id,
        errors=error.errors,
    )
    headers = {"Cache-Control": "no-store", **error.headers}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(orjson.dumps({**document.model_dump(), **error.members}), error.status, headers, PROBLEM_JSON)


def problem_of(request: Request, error: QuarryError) -> Response:
    return problem_response(request_id_of(request), request.scope["path"], error)


async def _on_quarry_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, QuarryError)  # noqa: S101  # registered for this class only
    if isinstance(error, Unavailable):
        # Where a refusal was raised is of no interest, and clients can cause many.
        note_failure(request.scope, error.code, str(error.__cause__ or error))
    elif error.status >= 500:
        _log.warning(
            "request_failed",
            code=error.code,
            path=loggable_path(request.scope["path"]),
            reason=str(error.__cause__ or error)[:MAX_SHOWN_LENGTH],
            exc_info=error,
        )
    return problem_of(request, error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class only
    codes = {400: "invalid_request", 401: "unauthenticated", 404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "http_error")
    problem = _status_error(error.status_code, code, str(error.detail))
    problem.headers.update(error.headers or {})
    return problem_of(request, problem)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this class only
    found = FieldErrors()
    for item in error.errors():
        found.add(item["loc"], item["msg"])
    return problem_of(
        request, found.of(_status_error(422, "validation_failed", "The request does not match the schema."))
    )


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


def note_failure(scope: Scope, code: str, reason: str) -> None:
    """Add what went wrong, `error` and `reason`, to the request's line in the access log, which becomes a warning. A
    second line would be more than a client may cause."""
    scope["state"]["failure"] = {"error": code, "reason": reason[:MAX_SHOWN_LENGTH]}


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
