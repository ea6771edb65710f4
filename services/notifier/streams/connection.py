"""One client's stream: who follows which feed, how far it has got, and what waits to be written.

Guarantees: memory is bounded by the queue; an event is written once and in order.
Fails by: ending the stream. A queue that overflows is dropped, not thinned: the client resumes after the last id it
has read. Only progress, which the next tick replaces, is thinned while a client is slow.
"""

import asyncio
import uuid
from typing import Final

from services.notifier.feeds.repository import FeedKey
from services.notifier.streams.frames import Frame
from shared.auth import Principal

COMPLETE: Final = "complete"
"""Why a stream ends whose feed has come to its end."""


class Connection:
    """An open stream.

    Attributes:
        visible: projects whose events may be shown; None for all.
        cursor: the sequence up to which the client has got everything.
        ending: why the stream is to end, once it is.
        frames: how many were written.
        writer: the task that writes, while there is one.
        writing_since: when the write under way began; None while nothing is being written.
        stuck: the client has not read for too long, and the writer was cancelled for it.
    """

    __slots__ = (
        "_limit", "_queue", "_waiter", "cursor", "ending", "ends_at", "frames", "key", "opened_at", "principal",
        "stuck", "visible", "writer", "writing_since", "wrote_at",
    )  # fmt: skip

    def __init__(self, principal: Principal, key: FeedKey, *, queue_frames: int, now: float, ends_at: float) -> None:
        self.principal = principal
        self.key = key
        self.visible: frozenset[uuid.UUID] | None = None
        self.cursor = 0
        self.ending: str | None = None
        self.frames = 0
        self.opened_at = self.wrote_at = now
        self.ends_at = ends_at
        self.writer: asyncio.Task[None] | None = None
        self.writing_since: float | None = None
        self.stuck = False
        self._limit = queue_frames
        self._queue: list[Frame] = []
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
        if frame.last:
            self.end(COMPLETE)
        self._wake()

    def _wants(self, frame: Frame) -> bool:
        return self.visible is None or frame.project_id is None or frame.project_id in self.visible

    def end(self, reason: str, *, at_once: bool = False) -> None:
        """Accept no more frames and let the writer finish; `at_once` drops queued frames."""
        if at_once:
            self._queue.clear()
        if self.ending is None:
            self.ending = reason
        self._wake()

    def cut_off(self) -> None:
        """End the stream although a write is under way that the client does not take."""
        self.end("stuck", at_once=True)
        if self.writer is not None:
            self.stuck = True
            self.writer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next_chunk(self) -> bytes:
        """All queued frames, as one piece; empty when the stream is to end."""
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
