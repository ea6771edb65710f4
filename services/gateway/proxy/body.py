"""The client's body on its way to a service, and the watch over the client before and after.

Two ways: received as a whole before it is sent to the service (`receive`), or, for transfers, chunk by chunk
(`chunks`), with backpressure: the next chunk is read when the service has taken the last one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.types import Receive

from services.gateway.errors import ClientGone
from services.gateway.inbound.request_validation import ClientRequest
from services.gateway.proxy.cancel_scope import CancelScope
from services.gateway.proxy.deadlines import Deadlines
from shared.errors import TooLarge


class RequestBody:
    """The only reader of `receive` for one request: ASGI has one stream of messages for body and disconnect."""

    def __init__(
        self, request: ClientRequest, receive: Receive, cancel_scope: CancelScope, deadlines: Deadlines, most_bytes: int
    ) -> None:
        self._receive = receive
        self._cancel_scope = cancel_scope
        self._deadlines = deadlines
        self._most_bytes = most_bytes
        self._watch: asyncio.Task[None] | None = None
        self._whole: bytes | None = None
        self.present = request.has_body
        self.started = False
        self.finished = not request.has_body
        if self.finished:
            self._watch_client()

    async def receive(self, keep: Callable[[int], None]) -> None:
        """Receive the whole body; `keep` is called before more of it is kept, and may refuse."""
        whole = bytearray()
        async for piece in self._pieces():
            keep(len(piece))
            whole += piece
        self._whole = bytes(whole)

    def content(self) -> bytes | AsyncIterator[bytes] | None:
        """What to send to a service: what has been received, else what is still to come."""
        if self._whole is not None:
            return self._whole
        return self._chunks() if self.present else None

    def forget(self) -> None:
        """What was sent is not sent again: the response goes on at another service, which is asked without a body."""
        self._whole, self.present = None, False

    async def _chunks(self) -> AsyncIterator[bytes]:
        self.started = True
        async for piece in self._pieces():
            yield piece

    async def _pieces(self) -> AsyncIterator[bytes]:
        """The body. Ends normally only when the client has sent all of it: a cut body must not pass for a whole one."""
        received = 0
        while True:
            self._deadlines.client_sends(received)
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise self._cut(ClientGone())
            chunk: bytes = message.get("body", b"")
            received += len(chunk)
            if received > self._most_bytes:
                raise self._cut(TooLarge())
            self._deadlines.upstream_reads()
            if chunk:
                yield chunk
            if not message.get("more_body", False):
                break
        self.finished = True
        self._deadlines.upstream_begins()
        self._watch_client()

    def close(self) -> None:
        """Stop watching the client."""
        if self._watch is not None:
            self._watch.cancel()

    def _cut(self, reason: Exception) -> Exception:
        self._cancel_scope.cut(reason)
        return reason

    def _watch_client(self) -> None:
        self._watch = asyncio.create_task(self._until_disconnect(), name="client watch")

    async def _until_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._cancel_scope.cut(ClientGone())
