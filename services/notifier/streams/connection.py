"""One client's stream: what waits to be written, and the ASGI response that writes it.

Guarantees: memory is bounded by the queue; an event reaches the client once and in order; the end of the stream is
seen at once when the client closes, and within `send_seconds` when it stops reading.
Fails by: ending the stream. A queue that overflows is dropped, not thinned: the client resumes after the last id it
has read. Only progress, which the next tick makes good, is thinned while a client is slow.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable, Callable

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from services.notifier.feeds.repository import FeedKey
from services.notifier.streams.frames import Frame
from shared.auth import Principal
from shared.telemetry import get_logger

Write = Callable[[bytes], Awaitable[None]]
_log = get_logger(__name__)


class ClientStuck(Exception):
    """The client has not read for too long."""


class Connection:
    """An open stream. `cursor` is the sequence up to which the client has got everything; `ending` why it ends."""

    __slots__ = (
        "_limit", "_queue", "_waiter", "cursor", "ending", "ends_at", "key", "opened_at", "principal", "started",
        "visible", "wrote_at",
    )  # fmt: skip

    def __init__(self, principal: Principal, key: FeedKey, *, queue_frames: int, now: float, ends_at: float) -> None:
        self.principal = principal
        self.key = key
        self.visible: frozenset[uuid.UUID] | None = None
        self.cursor = 0
        self.ending: str | None = None
        self.started = False
        self.opened_at = self.wrote_at = now
        self.ends_at = ends_at
        self._limit = queue_frames
        self._queue: deque[Frame] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def offer(self, frame: Frame) -> None:
        """Queue a frame if the client may see it and has not got it already."""
        if self.ending is not None or not self._wants(frame):
            return
        waiting = len(self._queue)
        if frame.sequence is None and waiting >= self._limit // 2:
            return
        if waiting >= self._limit:
            self.end("too slow", at_once=True)
            return
        self._queue.append(frame)
        self._wake()

    def _wants(self, frame: Frame) -> bool:
        return self.visible is None or frame.project_id is None or frame.project_id in self.visible

    def end(self, reason: str, *, at_once: bool = False) -> None:
        """Take no more frames and let the writer finish; `at_once` drops what waits."""
        if at_once:
            self._queue.clear()
        if self.ending is None:
            self.ending = reason
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next_chunk(self) -> bytes:
        """All that waits, as one piece; empty when the stream is to end."""
        while True:
            while not self._queue:
                if self.ending is not None:
                    return b""
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
            if chunk := self._take():
                return chunk

    def _take(self) -> bytes:
        wires = []
        for frame in self._queue:
            if frame.sequence is not None:
                if frame.sequence <= self.cursor:
                    continue
                self.cursor = frame.sequence
            wires.append(frame.wire)
        self._queue.clear()
        return b"".join(wires)


class EventStream(StreamingResponse):
    """The response: `talk` writes to the client until the connection ends; `hang_up` is called whatever happens."""

    media_type = "text/event-stream"

    def __init__(
        self,
        connection: Connection,
        *,
        talk: Callable[[Write], Awaitable[None]],
        hang_up: Callable[[], None],
        send_seconds: float,
    ) -> None:
        headers = {"Content-Type": self.media_type, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content=(), headers=headers)
        self._connection = connection
        self._talk = talk
        self._hang_up = hang_up
        self._send_seconds = send_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = self._connection
        connection.started = True
        loop = asyncio.get_running_loop()

        async def write(chunk: bytes) -> None:
            try:
                async with asyncio.timeout(self._send_seconds):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except TimeoutError as error:
                raise ClientStuck from error
            connection.wrote_at = loop.time()

        watch = asyncio.create_task(_until_gone(receive, connection))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._talk(write)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ClientStuck:
            # The response stays incomplete, which makes the server close the connection.
            _log.info("stream_cut_off", tenant_id=str(connection.key.tenant_id), reason="the client does not read")
        finally:
            watch.cancel()
            self._hang_up()


async def _until_gone(receive: Receive, connection: Connection) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    connection.end("gone", at_once=True)
