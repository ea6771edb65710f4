"""Text that is being written, sent in few pieces: what comes within `EVERY_SECONDS` is one.

Guarantees: pieces are sent in order, one at a time, and nothing twice. What is not sent when the block ends is left to
`rest`, which the caller sends with the end of the step.
Fails by: raising in `add` what sending has raised.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

EVERY_SECONDS: Final = 0.1
# The beginning is not kept back for as long: a reader waits for it.
_FIRST_SECONDS: Final = 0.03


class TextStream:
    """Of one attempt of one step."""

    def __init__(self, send: Callable[[str], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: list[str] = []
        self._some = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="text stream")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None  # noqa: S101  # entered before it is left
        self._closing.set()
        self._some.set()
        if kind is not None:
            self._task.cancel()
        await asyncio.wait([self._task])
        if kind is None:
            self._task.result()

    async def add(self, text: str) -> None:
        """Send `text` soon."""
        if self._task is not None and self._task.done():
            self._task.result()
        if text:
            self._waiting.append(text)
            self._some.set()

    def rest(self) -> str:
        """What has not been sent; to be called after the block."""
        text, self._waiting = "".join(self._waiting), []
        return text

    async def _run(self) -> None:
        pause = _FIRST_SECONDS
        while True:
            await self._some.wait()
            await self._pause(pause)
            if self._closing.is_set():
                return
            self._some.clear()
            text = self.rest()
            if text:
                await self._send(text)
                pause = EVERY_SECONDS

    async def _pause(self, seconds: float) -> None:
        """Wait for more text to come along; not for long once nothing more will."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
