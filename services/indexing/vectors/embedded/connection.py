"""The calling end of a stream of frames (wire.py): one connection, from its greeting to its end."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

from services.indexing.vectors.embedded import wire
from services.indexing.vectors.errors import VectorStoreLocked, VectorStoreUnavailable

STREAM_LIMIT: Final = 2**20
"""How much is read ahead: an upsert's frame in one piece instead of many."""


class Connection:
    """Concurrent calls share the stream; each has an id and a deadline. `peer` names the peer in errors."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        peer: str,
        max_frame: int | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._peer = peer
        self._max_frame = max_frame
        self._waiting: dict[int, asyncio.Future[wire.Reply]] = {}
        self._last_id = wire.GREETING
        self._receiving: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def alive(self) -> bool:
        return not self._closed

    async def greeted(self) -> Any:
        """The peer's greeting; from then on calls are possible.

        Raises:
            VectorStoreLocked, VectorStoreUnavailable: the peer says why it cannot serve.
            IncompleteReadError, ConnectionError: the peer disconnected without a greeting.
        """
        reply = await self._read()
        if "error" in reply:
            failure = VectorStoreLocked if reply.get("kind") == "locked" else VectorStoreUnavailable
            raise failure(reply["error"])
        self._receiving = asyncio.create_task(self._receive())
        return reply.get("ok")

    async def call(self, op: str, args: Mapping[str, Any], until: float) -> Any:
        """The operation's result, as JSON; `until` is on `time.monotonic`'s clock.

        Raises:
            VectorStoreUnavailable: failure, death or deadline.
            FrameTooLarge: nothing was sent.
        """
        if self._closed:
            raise VectorStoreUnavailable(f"{self._peer} has ended")
        self._last_id += 1
        call_id, reply = self._last_id, asyncio.get_running_loop().create_future()
        frame = wire.encode({"id": call_id, "op": op, "args": dict(args), "until": until}, self._max_frame)
        self._waiting[call_id] = reply
        try:
            async with asyncio.timeout(until - time.monotonic()):
                self._writer.write(frame)
                await self._writer.drain()
                answer: wire.Reply = await reply
        except TimeoutError as error:
            raise VectorStoreUnavailable(f"{op} was not answered in time") from error
        except ConnectionError as error:
            raise VectorStoreUnavailable(f"{self._peer} ended during {op}") from error
        finally:
            self._waiting.pop(call_id, None)
            reply.cancel()
        if "error" in answer:
            raise VectorStoreUnavailable(f"{op} failed: {answer['error']}")
        return answer["ok"]

    async def ended(self) -> None:
        """Returns once either end has closed."""
        if self._receiving is not None:
            await asyncio.wait([self._receiving])
        self._writer.close()

    def finish(self) -> None:
        """Makes no more requests; those under way still get their replies."""
        if not self._closed:
            self._writer.write_eof()

    def abandon(self) -> None:
        """Closes now; calls under way fail."""
        self._writer.close()

    async def _read(self) -> wire.Reply:
        """Raises ConnectionError also for frames that break the protocol."""
        try:
            reply: wire.Reply = orjson.loads(await wire.read_body(self._reader, self._max_frame))
        except (wire.FrameTooLarge, orjson.JSONDecodeError) as error:
            raise ConnectionAbortedError(f"{self._peer} sent no reply") from error
        return reply

    async def _receive(self) -> None:
        try:
            while True:
                reply = await self._read()
                waiting = self._waiting.get(reply["id"])
                if waiting is not None and not waiting.done():
                    waiting.set_result(reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the peer is gone, which is how every connection ends
        finally:
            self._closed = True
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionResetError())
