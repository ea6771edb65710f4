"""Cancels a block with an error of its own: what `asyncio.timeout` does for a deadline, for any reason.

    async with CancelScope() as cancel_scope:
        ...  # elsewhere: cancel_scope.cut(ClientGone()), or the deadline of cancel_scope.by(...) passes

The block is cancelled and raises the error instead of the cancellation. A cancellation from outside stays what it is.
"""

import asyncio
from types import TracebackType
from typing import Self


class CancelScope:
    """Of the current task, for one block. The first reason counts."""

    def __init__(self) -> None:
        self.reason: Exception | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("a cancel scope belongs to a task")
        self._cancelling = self._task.cancelling()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.by(None)
        task, self._task = self._task, None
        if self.reason is None or task is None:
            return
        if task.uncancel() <= self._cancelling and (kind is None or issubclass(kind, asyncio.CancelledError)):
            raise self.reason from error

    def cut(self, reason: Exception) -> None:
        """End the block with `reason`. Nothing happens once the block has ended."""
        if self._task is not None and self.reason is None:
            self.reason = reason
            self._task.cancel()

    def by(self, seconds: float | None, reason: Exception | None = None) -> None:
        """Replace the deadline: `seconds` from now the block ends with `reason`; None: no deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None and reason is not None:
            self._timer = self._loop.call_later(seconds, self.cut, reason)
