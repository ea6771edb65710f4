"""The bytes of one request, taken as they arrive."""

import asyncio
import time
from collections.abc import AsyncIterator

from services.projects.documents.errors import UploadAborted
from services.projects.upload_turns import Turn
from services.projects.uploads.errors import UploadTakenOver


class Arrivals:
    """A body, chunk by chunk. Unlike an `asyncio.timeout` around a generator, waiting loses nothing.

    `failure` is why nothing more comes before the end: the client is gone, or the upload is wanted by another request.
    """

    def __init__(self, chunks: AsyncIterator[bytes], turn: Turn) -> None:
        self._chunks = chunks
        self._turn = turn
        self._next: asyncio.Task[bytes] | None = None
        self._wanted = asyncio.create_task(turn.wanted.wait())
        self._over = False
        self.failure: UploadAborted | UploadTakenOver | None = None

    def is_over(self) -> bool:
        """Nothing more comes."""
        return self._over

    async def next(self, until: float) -> bytes | None:
        """The next chunk; None when there is none before `until`, in seconds of `time.monotonic`, or at all.

        Raises:
            What the chunks raise, but for the client being gone.
        """
        if self._over:
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
            self._over, self.failure = True, UploadTakenOver(retry_after=1)
        return None

    def _taken(self, done: "asyncio.Task[bytes]") -> bytes | None:
        try:
            return done.result()
        except StopAsyncIteration:
            self._over = True
        except UploadAborted as error:
            self._over, self.failure = True, error
        return None

    async def close(self) -> None:
        tasks = [task for task in (self._next, self._wanted) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
