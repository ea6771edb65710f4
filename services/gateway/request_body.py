"""The client's body on its way to a service, chunk by chunk, and the watch over the client before and after.

Backpressure goes through: the next chunk is asked for when the service has taken the last one.
"""

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Receive

from services.gateway.client_request import ClientRequest
from services.gateway.errors import ClientGone
from services.gateway.lifeline import Lifeline
from services.gateway.patience import Patience
from shared.errors import TooLarge


class RequestBody:
    """Reads `receive` for one request, alone: ASGI has one stream of messages for body and disconnect."""

    def __init__(
        self, request: ClientRequest, receive: Receive, lifeline: Lifeline, patience: Patience, most_bytes: int
    ) -> None:
        self._receive = receive
        self._lifeline = lifeline
        self._patience = patience
        self._most_bytes = most_bytes
        self._watch: asyncio.Task[None] | None = None
        self.present = request.has_body
        self.started = False
        self.finished = not request.has_body
        if self.finished:
            self._watch_client()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body. Ends normally only when the client has sent all of it: a cut body must not pass for a whole one."""
        self.started = True
        received = 0
        while True:
            self._patience.client_sends(received)
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise self._cut(ClientGone())
            chunk: bytes = message.get("body", b"")
            received += len(chunk)
            if received > self._most_bytes:
                raise self._cut(TooLarge())
            self._patience.upstream_reads()
            if chunk:
                yield chunk
            if not message.get("more_body", False):
                break
        self.finished = True
        self._patience.upstream_begins()
        self._watch_client()

    def close(self) -> None:
        """Stop watching the client."""
        if self._watch is not None:
            self._watch.cancel()

    def _cut(self, reason: Exception) -> Exception:
        self._lifeline.cut(reason)
        return reason

    def _watch_client(self) -> None:
        self._watch = asyncio.create_task(self._until_disconnect(), name="client watch")

    async def _until_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._lifeline.cut(ClientGone())
