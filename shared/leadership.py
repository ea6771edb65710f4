"""Leader election: of a service's processes, one at a time does a piece of work.

A session-level advisory lock of Postgres, held by the connection that the leader keeps for it. A process that loses the
connection loses the lock with it; one that ends, or vanishes (`shared.keepalive`), is succeeded by another.

Guarantees: two processes are never told that they have the lock at the same time.
Does not guarantee: that a leader notices at once that its connection is gone. It checks with `confirm`, as often as it
can afford, and its work must tolerate being done twice.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_ATTEMPT_SECONDS: Final = 0.5


class Leadership:
    """`leading` while this process leads; `name` names the work, e.g. `relay:projects`."""

    def __init__(self, name: str, system: AsyncEngine) -> None:
        self._name = name
        self._system = system
        self._lock: AsyncConnection | None = None

    @property
    def leading(self) -> bool:
        return self._lock is not None

    @asynccontextmanager
    async def held(self, meanwhile: Callable[[float], Awaitable[None]] = asyncio.sleep) -> AsyncIterator[None]:
        """Wait to become the leader, and lead for the length of the block.

        Args:
            meanwhile: waits for the given seconds, while another process leads.

        Raises:
            SQLAlchemyError, OSError: Postgres cannot be reached.
        """
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._system.connect())
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            # Polled: a blocking wait would outlive the statement timeout.
            attempt = select(func.pg_try_advisory_lock(func.hashtext(self._name)))
            while not await connection.scalar(attempt):
                await meanwhile(_ATTEMPT_SECONDS)
            stack.push_async_callback(_release, connection)
            self._lock = connection
            try:
                yield
            finally:
                self._lock = None

    async def confirm(self) -> None:
        """Within `held`: the lock is still there, since it lives and dies with its connection.

        Raises:
            SQLAlchemyError, OSError: another process may have it by now.
        """
        assert self._lock is not None  # noqa: S101  # said above
        await self._lock.execute(text("SELECT 1"))


async def _release(connection: AsyncConnection) -> None:
    if not connection.invalidated:
        await connection.execute(select(func.pg_advisory_unlock_all()))
