"""Problem documents (RFC 9457): every error of every service is rendered here."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from shared.errors import QuarryError, Unavailable
from shared.request_context import loggable_path, note_failure, request_id_of
from shared.telemetry import get_logger

PROBLEM_JSON = "application/problem+json"
MAX_SHOWN_ERRORS = 20
MAX_SHOWN_LENGTH = 200
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
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
