"""The bytes of one request, taken as they arrive, and who else wants to go on with the same upload.

One request at a time writes to an upload. Whoever comes next ends the one before it, whose connection is dead more
often than not, and the bytes that have come until then count. In one process that is immediate; a request in another
process finds that its token has been replaced when it is about to record what it has received, which is every few
seconds.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

from services.projects.documents.errors import UploadAborted
from services.projects.uploads.errors import UploadTakenOver

# How long a request that is ended may take to record what it has received.
ENDING_SECONDS: Final = 10.0


class Turn:
    """The turn of one request at an upload."""

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.over = asyncio.Event()


class Turns:
    """Whose turn it is at each upload that this process receives. Made in the lifespan."""

    def __init__(self) -> None:
        self._turns: dict[tuple[uuid.UUID, uuid.UUID], Turn] = {}

    async def end(self, tenant_id: uuid.UUID, upload_id: uuid.UUID) -> None:
        """Have the request that writes to the upload, if there is one, record what has come, and end."""
        turn = self._turns.get((tenant_id, upload_id))
        if turn is None:
            return
        turn.wanted.set()
        try:
            async with asyncio.timeout(ENDING_SECONDS):
                await turn.over.wait()
        except TimeoutError as error:
            raise UploadTakenOver(retry_after=2) from error

    @contextmanager
    def take(self, tenant_id: uuid.UUID, upload_id: uuid.UUID) -> Iterator[Turn]:
        """Raises UploadTakenOver: another request was faster."""
        key = (tenant_id, upload_id)
        if key in self._turns:
            raise UploadTakenOver(retry_after=1)
        turn = self._turns[key] = Turn()
        try:
            yield turn
        finally:
            del self._turns[key]
            turn.over.set()


class Arrivals:
    """A body, chunk by chunk. Unlike an `asyncio.timeout` around a generator, waiting loses nothing.

    `failure` is why nothing more comes before the end: the client is gone, or the upload is wanted by another request.
    """

    def __init__(self, chunks: AsyncIterator[bytes], turn: Turn) -> None:
        self._chunks = chunks
        self._turn = turn
        self._next: asyncio.Task[bytes] | None = None
        self._wanted = asyncio.create_task(turn.wanted.wait())
        self.over = False
        self.failure: UploadAborted | UploadTakenOver | None = None

    async def next(self, until: float) -> bytes | None:
        """The next chunk; None when there is none before `until`, in seconds of `time.monotonic`, or at all.

        Raises:
            What the chunks raise, but for the client being gone.
        """
        if self.over:
            return None
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._chunks))
        await asyncio.wait(
            (self._next, self._wanted),
            timeout=max(0.0, until - time.monotonic()),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if self._next.done():
            done, self._next = self._next, None
            return self._taken(done)
        if self._wanted.done():
            self.over, self.failure = True, UploadTakenOver(retry_after=1)
        return None

    def _taken(self, done: "asyncio.Task[bytes]") -> bytes | None:
        try:
            return done.result()
        except StopAsyncIteration:
            self.over = True
        except UploadAborted as error:
            self.over, self.failure = True, error
        return None

    async def close(self) -> None:
        tasks = [task for task in (self._next, self._wanted) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
