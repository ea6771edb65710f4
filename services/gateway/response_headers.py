"""The headers of every response, the gateway's or a service's: security headers, `Server-Timing`, limits, and CORS.

CORS: origins come from a list in the settings and are compared as a whole; none is ever reflected because it asked, and
`null` is never allowed.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.errors import OriginRefused
from services.gateway.settings import GatewaySettings
from shared.errors import QuarryError
from shared.problems import problem_response
from shared.request_context import loggable_path, request_id_of
from shared.telemetry import get_logger

RawHeader = tuple[bytes, bytes]

_log = get_logger(__name__)

_ALLOWED_METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_ALLOWED_HEADERS: Final = (
    b"Authorization, Content-Type, X-CSRF-Token, X-Request-ID, Idempotency-Key, If-Match, If-None-Match, "
    b"If-Range, If-Modified-Since, If-Unmodified-Since, Content-Encoding, Prefer, "
    b"Range, Last-Event-ID, Cache-Control, Tus-Resumable, Upload-Length, Upload-Offset, Upload-Metadata, "
    b"Upload-Checksum, Upload-Defer-Length, X-HTTP-Method-Override, "
    b"MCP-Protocol-Version, Mcp-Method, Mcp-Name, Mcp-Session-Id"
)
_EXPOSED_HEADERS: Final = (
    b"X-Request-ID, ETag, Location, Allow, Accept-Ranges, Last-Modified, "
    b"Content-Disposition, Content-Range, RateLimit, RateLimit-Policy, Retry-After, "
    b"Server-Timing, Idempotency-Replayed, Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size, "
    b"Tus-Checksum-Algorithm, Upload-Offset, Upload-Length, Upload-Defer-Length, Upload-Metadata, Upload-Expires, "
    b"Quarry-Document-Id"
)
_PREFLIGHT_SECONDS: Final = b"600"
# Where a response has none of its own: an API response is no page, and holds data of one user.
_DEFAULTS: Final = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"cache-control", b"no-store"),
)


def security_headers(settings: GatewaySettings) -> list[RawHeader]:
    """On every response. HSTS only where the public address is HTTPS: on plain HTTP it would mean nothing."""
    always = [
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
    ]
    if settings.secure:
        always.append((b"strict-transport-security", b"max-age=31536000; includeSubDomains"))
    return always


class ResponseHeaders:
    """ASGI middleware. Inner layers leave what they add in the scope's state: `answer_headers`, `timings`."""

    def __init__(self, app: ASGIApp, *, settings: GatewaySettings) -> None:
        self._app = app
        self._always = security_headers(settings)
        self._origins = frozenset(origin.encode("ascii") for origin in settings.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["answer_headers"] = []
        state["timings"] = {}
        origin = _header(scope, b"origin")
        started = time.perf_counter()

        async def send_complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                state["timings"]["total"] = time.perf_counter() - started
                message["headers"] = self._complete(message.get("headers", ()), state, origin)
            await send(message)

        if origin is not None and scope["method"] == "OPTIONS" and _header(scope, b"access-control-request-method"):
            await self._preflight(scope, origin)(scope, receive, send_complete)
            return
        await self._app(scope, receive, send_complete)

    def _complete(self, headers: list[RawHeader], state: dict[str, object], origin: bytes | None) -> list[RawHeader]:
        present = {name for name, _ in headers}
        timings = state["timings"]
        assert isinstance(timings, dict)  # noqa: S101  # set above
        timing = ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in timings.items())
        extra = state["answer_headers"]
        assert isinstance(extra, list)  # noqa: S101  # set above
        return [
            *headers,
            *self._always,
            *((name, value) for name, value in _DEFAULTS if name not in present),
            *extra,
            *self._cors(origin),
            (b"server-timing", timing.encode("ascii")),
        ]

    def _cors(self, origin: bytes | None) -> list[RawHeader]:
        if not self._origins:
            return []
        if origin not in self._origins or origin is None:
            return [(b"vary", b"Origin")]
        return [
            (b"vary", b"Origin"),
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", _EXPOSED_HEADERS),
        ]

    def _preflight(self, scope: Scope, origin: bytes) -> Response:
        if origin not in self._origins:
            return problem_response(scope["state"]["request_id"], scope["path"], OriginRefused())
        return Response(
            status_code=204,
            headers={
                "Access-Control-Allow-Methods": _ALLOWED_METHODS.decode("ascii"),
                "Access-Control-Allow-Headers": _ALLOWED_HEADERS.decode("ascii"),
                "Access-Control-Max-Age": _PREFLIGHT_SECONDS.decode("ascii"),
            },
        )


def crash_handler(settings: GatewaySettings) -> Callable[[Request, Exception], Awaitable[Response]]:
    """The response to a defect of the gateway itself: sent outside all middleware, so it adds all headers itself."""

    async def on_crash(request: Request, error: Exception) -> Response:
        _log.error(
            "request_crashed",
            path=loggable_path(request.scope["path"]),
            request_id=request_id_of(request),
            exc_info=error,
        )
        response = problem_response(request_id_of(request), request.scope["path"], QuarryError())
        response.headers["X-Request-ID"] = request_id_of(request)
        for name, value in security_headers(settings):
            response.headers[name.decode("ascii")] = value.decode("ascii")
        return response

    return on_crash


def _header(scope: Scope, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None
