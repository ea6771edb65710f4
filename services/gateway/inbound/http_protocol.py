"""uvicorn's HTTP parser, hardened: `--http services.gateway.inbound.http_protocol:GuardedProtocol`.

On top of `HttpToolsProtocol`:
- waiting connections are few (`services.gateway.inbound.connections`) and do not wait long: `HEADER_SECONDS` for the
  first request and the end of its headers, `IDLE_SECONDS` for another request, `DRAIN_SECONDS` for the rest of a body
  whose response came before its end. Each is one deadline, which no byte extends;
- the address (414) and the headers (431) are bounded before any of them reaches the application, and what surrounds a
  body (chunk sizes and extensions, trailers) in proportion to the body;
- a second request sent before the first response (pipelining) is not taken: uvicorn would stop reading, and so never
  notice that the client of a long response has left. The connection is closed after the first response, as RFC 9112,
  9.3.2 allows;
- trailer fields do not become headers;
- a client that does not read keeps a connection that is being closed for `LINGER_SECONDS` at most;
- a refusal before there is a request is a problem document with a request id, as any other, but is not logged: it costs
  a client nothing;
- when the server shuts down, open event streams are told to end (`state["on_shutdown"]`), instead of being cut off.
"""

import asyncio
import uuid
from typing import Any, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.gateway.errors import AddressTooLong, HeadersTooLarge
from services.gateway.inbound.connections import CROWDED_SECONDS, Connections
from services.gateway.inbound.request_validation import MAX_ADDRESS_BYTES, MAX_HEADER_BYTES
from shared.errors import InvalidRequest, QuarryError, Unavailable
from shared.problems import problem_response

HEADER_SECONDS: Final = 10.0
# Longer than HTTP clients keep an unused connection, most of them 5 to 60 s: one that takes it up again while it is
# being closed loses its request. How many wait is bounded anyway.
IDLE_SECONDS: Final = 75.0
DRAIN_SECONDS: Final = 5.0
LINGER_SECONDS: Final = 30.0
# A little more than the application allows, so that the application refuses where it can.
MAX_HEAD_BYTES: Final = MAX_HEADER_BYTES * 2
MAX_TARGET_BYTES: Final = MAX_ADDRESS_BYTES + 512  # a target may name the host too
# How much framing a body may have: a chunk of one byte is five bytes longer.
MAX_FRAMING_BYTES: Final = 16 * 1024
MAX_FRAMING_PER_BYTE: Final = 8


def _refusal(error: QuarryError) -> bytes:
    """A complete response by the connection itself, the last one on it."""
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


class _Stop(Exception):
    """Stops the parser in the middle of its input."""


class _EndingTransport:
    """A transport whose `close` takes a bounded time: what the client has not read by then is dropped."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self.write = transport.write
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        self._transport.close()
        if self._timer is None:
            self._timer = self._loop.call_later(LINGER_SECONDS, self._transport.abort)

    def closed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class GuardedProtocol(HttpToolsProtocol):
    """One connection of a client."""

    _in_head = True
    _head_bytes = 0
    _in_body = False
    _body_bytes = 0
    _framing_bytes = 0
    _deaf = False
    _reason: QuarryError | None = None
    _timer: asyncio.TimerHandle | None = None
    _ending: _EndingTransport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the parent
        self._ending = _EndingTransport(transport, self.loop)
        super().connection_made(cast("asyncio.Transport", self._ending))
        if self._table.admit(self, self.client[0] if self.client else ""):
            self._await_head()
        else:
            self._refuse(Unavailable("There are too many connections.", retry_after=1))

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._table.leave(self)
        super().connection_lost(exc)
        self._ending.closed()

    def close_unused(self) -> None:
        """Make room: no request is under way here."""
        self._stop_timer()
        self._deaf = True
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        was_in_body, body_bytes = self._in_body, self._body_bytes
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # no upgrade is offered: the request is handled as any
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HeadersTooLarge())
        elif was_in_body and self._in_body:
            self._framing_bytes += len(data) - (self._body_bytes - body_bytes)
            if self._framing_bytes > MAX_FRAMING_BYTES + MAX_FRAMING_PER_BYTE * self._body_bytes:
                self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        self._deaf = True
        if self._answer_under_way() and not self.cycle.more_body:
            # What follows a complete request must not get a response inside the one under way.
            self.cycle.keep_alive = False
        elif self._answer_under_way() and self.cycle.response_started:
            self.transport.close()
        else:
            self._refuse(self._reason or InvalidRequest("This is not a valid HTTP/1.1 request."))

    def on_message_begin(self) -> None:
        if self._answer_under_way():
            raise _Stop
        super().on_message_begin()
        self._head_bytes = 0
        self._await_head()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_TARGET_BYTES:
            self._reason = AddressTooLong()
            raise _Stop

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._in_body = True
        self._body_bytes = self._framing_bytes = 0
        self._stop_timer()
        self._table.is_busy(self)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._head_bytes = 0
        super().on_message_complete()
        if not self._answer_under_way():
            self._await_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # uvicorn's own deadline for the next request.
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        if self._in_body:
            self._wait(DRAIN_SECONDS)
        else:
            self._await_request()

    def shutdown(self) -> None:
        super().shutdown()
        if self._answer_under_way() and (end := self.cycle.scope["state"].get("on_shutdown")) is not None:
            end()

    @property
    def _table(self) -> Connections:
        table: Connections = self.app_state["connections"]
        return table

    def _answer_under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_request(self) -> None:
        self._wait(IDLE_SECONDS)

    def _await_head(self) -> None:
        self._in_head = True
        self._wait(HEADER_SECONDS)

    def _wait(self, seconds: float) -> None:
        """Close the connection after `seconds`, or earlier when too many wait."""
        self._table.waits(self)
        if self._table.is_crowded(self):
            seconds = min(seconds, CROWDED_SECONDS)
        self._stop_timer()
        if not self._deaf:
            self._timer = self.loop.call_later(seconds, self.close_unused)

    def _refuse(self, error: QuarryError) -> None:
        self._deaf = True
        self._stop_timer()
        self.transport.write(_refusal(error))
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
