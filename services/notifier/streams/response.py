"""The ASGI side of a stream: how it is opened, written, and given up.

A stream lives for minutes, and the dozen nested calls of the middleware would be kept with it: more memory than the
stream itself. `EventStream`, the response, therefore only sends the head and hands itself to `StreamRunner`, the
outermost middleware, which goes on once everything inside has returned. The access log and the server span therefore
cover the opening of a stream, not its duration.

The end is seen at once when the client closes, and within `send_seconds` when it stops reading: no write has a timeout
of its own, the loop that serves all connections cancels the writer.
"""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from services.notifier.streams.connection import Connection
from services.notifier.streams.frames import FRAME_END
from shared.http_semantics import wants_body
from shared.telemetry import get_logger

Write = Callable[[bytes], Awaitable[None]]
_LEFT = "event_stream"
# What the server itself put into the scope; the rest is the application's, and is released.
_OF_THE_SERVER = frozenset(
    {"type", "asgi", "http_version", "server", "client", "scheme", "method", "root_path", "path", "raw_path"}
    | {"query_string", "headers"}
)
_log = get_logger(__name__)


class EventStream(StreamingResponse):
    """Responds with a stream: `talk` writes until the connection ends; `hang_up` is called whatever happens."""

    media_type = "text/event-stream"

    def __init__(
        self, connection: Connection, *, talk: Callable[[Write], Awaitable[None]], hang_up: Callable[[], None]
    ) -> None:
        headers = {"Content-Type": self.media_type, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content=(), headers=headers)
        self._connection = connection
        self._talk = talk
        self._hang_up = hang_up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if not wants_body(scope):
            await send({"type": "http.response.body", "body": b""})
            self._hang_up()
            return
        scope["state"][_LEFT] = _Run(self._connection, self._talk, self._hang_up)


class StreamRunner:
    """Middleware that continues the streams that the application hands over here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, send)
        run: _Run | None = scope["state"].pop(_LEFT, None)
        if run is not None:
            for name in [name for name in scope if name not in _OF_THE_SERVER]:
                del scope[name]
            await run(receive, send)


class _Run:
    """One stream from its first byte to its last."""

    __slots__ = ("_connection", "_hang_up", "_talk")

    def __init__(
        self, connection: Connection, talk: Callable[[Write], Awaitable[None]], hang_up: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._talk = talk
        self._hang_up = hang_up

    async def __call__(self, receive: Receive, send: Send) -> None:
        connection = self._connection
        writer = connection.writer = asyncio.current_task()
        time = asyncio.get_running_loop().time

        async def write(chunk: bytes) -> None:
            connection.writing_since = time()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            connection.writing_since = None
            connection.wrote_at = time()
            connection.frames += chunk.count(FRAME_END)

        watch = asyncio.create_task(_until_gone(receive, connection))
        try:
            await self._talk(write)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            if writer is None or not connection.stuck:
                raise
            # The response stays incomplete, which makes the server close the connection.
            writer.uncancel()
            _log.info("stream_cut_off", tenant_id=str(connection.key.tenant_id), reason="the client does not read")
        finally:
            connection.writer = None
            watch.cancel()
            self._hang_up()


async def _until_gone(receive: Receive, connection: Connection) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    connection.end("gone", at_once=True)
