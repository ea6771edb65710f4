"""What engines behind a connection have in common: operations as calls, deadlines, waiting for a new connection.

- Writes under way are bounded, and so are frames, so that a search never waits behind a large batch.
- A call made while there is no connection waits for one, for a short time, and then raises VectorStoreUnavailable.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar
from uuid import UUID

from services.indexing.vectors.embedded.wire import FrameTooLarge
from services.indexing.vectors.engine import Condition, EnginePoint, EngineRecord, EngineSearch, EngineWords, Payload
from services.indexing.vectors.errors import InvalidPoint, VectorStoreUnavailable
from services.indexing.vectors.points import SEARCH_SECONDS

_PING_SECONDS: Final = 2.0
_DELETE_SECONDS: Final = 5.0
_RECONNECT_SECONDS: Final = 2.0
_PING_RECONNECT_SECONDS: Final = 0.5
_FRAME_POINTS: Final = 64
_WRITES_UNDER_WAY: Final = 8


class Caller(Protocol):
    @property
    def alive(self) -> bool: ...

    async def call(self, op: str, args: Mapping[str, Any], until: float) -> Any: ...


C = TypeVar("C", bound=Caller)


class EngineClient(Generic[C]):
    """Subclasses call `_use` with every new connection while they are started.

    `away` says, in an error, why there is none.
    """

    def __init__(self, *, call_timeout: float, away: str) -> None:
        self._call_timeout = call_timeout
        self._away = away
        self._connection: C | None = None
        self._connected = asyncio.Event()
        self._writing = asyncio.Semaphore(_WRITES_UNDER_WAY)
        self._watching: asyncio.Task[None] | None = None

    def _use(self, connection: C) -> None:
        self._connection = connection
        self._connected.set()

    async def _end_watch(self) -> C | None:
        """End the task that supplies connections; the last one, if any, is the caller's to close."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        connection, self._connection = self._connection, None
        self._connected.clear()
        return connection

    async def call(
        self, op: str, args: Mapping[str, Any], until: float, *, reconnect_within: float = _RECONNECT_SECONDS
    ) -> Any:
        """One operation by its name; `until` is on `time.monotonic`'s clock. Raises VectorStoreUnavailable."""
        if self._watching is None:
            raise VectorStoreUnavailable("the vector store is not started")
        connection = self._connection
        if connection is None or not connection.alive:
            connection = await self._reconnected(min(reconnect_within, until - time.monotonic()))
        return await connection.call(op, args, until)

    async def _reconnected(self, reconnect_within: float) -> C:
        try:
            async with asyncio.timeout(reconnect_within):
                while self._connection is None or not self._connection.alive:
                    self._connected.clear()
                    await self._connected.wait()
                return self._connection
        except TimeoutError as error:
            raise VectorStoreUnavailable(self._away) from error

    async def _ask(self, op: str, /, **args: Any) -> Any:
        return await self.call(op, args, time.monotonic() + self._call_timeout)

    async def ping(self) -> None:
        await self.call("ping", {}, time.monotonic() + _PING_SECONDS, reconnect_within=_PING_RECONNECT_SECONDS)

    async def upsert(self, points: Sequence[EnginePoint]) -> None:
        for start in range(0, len(points), _FRAME_POINTS):
            async with self._writing:
                await self._upsert(points[start : start + _FRAME_POINTS])

    async def _upsert(self, points: Sequence[EnginePoint]) -> None:
        """Frames of points with a lot of metadata are split."""
        try:
            await self._ask("upsert", points=points)
        except FrameTooLarge as error:
            if len(points) == 1:
                raise InvalidPoint("a point is too large") from error
            middle = len(points) // 2
            await self._upsert(points[:middle])
            await self._upsert(points[middle:])

    async def set_payload(self, where: Condition, payload: Payload) -> None:
        async with self._writing:
            await self._ask("set_payload", where=where, payload=payload)

    async def set_words(self, where: Condition, words: Sequence[EngineWords]) -> None:
        async with self._writing:
            await self._ask("set_words", where=where, words=words)

    async def delete(self, where: Condition) -> int:
        """Has a short deadline, after which it is not done: a deletion blocks other writers meanwhile."""
        async with self._writing:
            until = time.monotonic() + min(_DELETE_SECONDS, self._call_timeout)
            deleted: int = await self.call("delete", {"where": where}, until)
        return deleted

    async def search(self, search: EngineSearch) -> list[EngineRecord]:
        until = time.monotonic() + min(SEARCH_SECONDS, self._call_timeout)
        records: list[EngineRecord] = await self.call("search", dict(search), until)
        return records

    async def count(self, where: Condition) -> int:
        count: int = await self._ask("count", where=where)
        return count

    async def scroll(self, where: Condition, *, after: UUID | None, limit: int) -> list[EngineRecord]:
        # As text: database drivers have UUID types of their own.
        last = None if after is None else str(after)
        records: list[EngineRecord] = await self._ask("scroll", where=where, after=last, limit=limit)
        return records

    async def vectors(self, where: Condition, *, limit: int) -> dict[str, list[float]]:
        vectors: dict[str, list[float]] = await self._ask("vectors", where=where, limit=limit)
        return vectors

    async def flush(self) -> None:
        await self._ask("flush")

    async def optimize(self) -> None:
        await self._ask("optimize")
