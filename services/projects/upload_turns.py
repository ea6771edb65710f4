"""Which request writes to an upload that is sent in pieces: one at a time.

Whoever comes next ends the one before it, whose connection is dead more often than not, and the bytes that have come
until then count. In one process that is immediate; a request in another process finds that its token has been replaced
when it is about to record what it has received, which is every few seconds (`services.projects.uploads.receiving`).
"""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from services.projects.blobs.store import BlobBusy

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

    def taken(self, tenant_id: uuid.UUID, upload_id: uuid.UUID) -> bool:
        return (tenant_id, upload_id) in self._turns

    async def end(self, tenant_id: uuid.UUID, upload_id: uuid.UUID) -> None:
        """Have the request that writes to the upload, if there is one, record what has come, and end.

        Raises:
            BlobBusy: it does not.
        """
        turn = self._turns.get((tenant_id, upload_id))
        if turn is None:
            return
        turn.wanted.set()
        try:
            async with asyncio.timeout(ENDING_SECONDS):
                await turn.over.wait()
        except TimeoutError as error:
            raise BlobBusy(retry_after=2) from error

    @contextmanager
    def take(self, tenant_id: uuid.UUID, upload_id: uuid.UUID) -> Iterator[Turn]:
        """Raises BlobBusy: another request was faster."""
        key = (tenant_id, upload_id)
        if key in self._turns:
            raise BlobBusy(retry_after=1)
        turn = self._turns[key] = Turn()
        try:
            yield turn
        finally:
            del self._turns[key]
            turn.over.set()
