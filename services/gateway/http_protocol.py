"""uvicorn's HTTP parser, made fit for strangers: `--http services.gateway.http_protocol:GuardedProtocol`.

On top of `HttpToolsProtocol`:
- headers are bounded in size (431) and in time (the connection is closed), before any of them reaches the application;
- a second request sent before the first is answered (pipelining) is not taken: uvicorn would stop reading, and so never
  notice that the client of a long answer has left. The connection is closed after the first answer, as RFC 9112, 9.3.2
  allows;
- trailer fields do not become headers;
- what is refused before it is a request is told as everything else: a problem document with a request id;
- when the server shuts down, open event streams are told to end (`state["on_shutdown"]`), instead of being torn off.
"""

import asyncio
import uuid
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.gateway.client_request import MAX_HEADER_BYTES
from services.gateway.errors import HeadersTooLarge
from shared.errors import InvalidRequest, QuarryError
from shared.http import problem_response

HEADER_SECONDS: Final = 10.0
# A little more than the application allows, so that it is the one that answers where it can.
MAX_HEAD_BYTES: Final = MAX_HEADER_BYTES * 2


def _refusal(error: QuarryError) -> bytes:
    """A whole answer of the connection's own, the last one on it."""
    request_id = uuid.uuid4().hex
    answer = problem_response(request_id, "", error)
    headers = [
        *answer.raw_headers,
        (b"x-request-id", request_id.encode("ascii")),
        (b"x-content-type-options", b"nosniff"),
        (b"connection", b"close"),
    ]
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return STATUS_LINE[error.status] + lines + b"\r\n" + bytes(answer.body)


class _Pipelined(Exception):
    """Stops the parser in the middle of its input."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection of a client."""

    _in_head = True
    _head_bytes = 0
    _deaf = False
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the parent
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        super().data_received(data)
        if self._in_head and not self._deaf:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._deaf = True
                self.transport.write(_refusal(HeadersTooLarge()))
                self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._deaf = True
        if self._answer_under_way() and not self.cycle.more_body:
            # What follows a whole request must not be answered into the answer that is under way.
            self.cycle.keep_alive = False
        elif self._answer_under_way() and self.cycle.response_started:
            self.transport.close()
        else:
            self.transport.write(_refusal(InvalidRequest("This is not a request that HTTP/1.1 knows.")))
            self.transport.close()

    def on_message_begin(self) -> None:
        if self._answer_under_way():
            raise _Pipelined
        super().on_message_begin()
        self._head_bytes = 0
        self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head_bytes = 0

    def shutdown(self) -> None:
        super().shutdown()
        if self._answer_under_way() and (end := self.cycle.scope["state"].get("on_shutdown")) is not None:
            end()

    def _answer_under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._in_head = True
        self._stop_timer()
        self._head_timer = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._deaf = True
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
