"""Keep one process running: restarted after it ended by itself, with growing pauses, and at once on request.

A process that lived for half a minute before it ended is taken for a healthy one: the pauses start over. Cancelling
`run` stops supervising, not the process; its owner stops it.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from infra.local.errors import ProcessError
from infra.local.server_protocols import ServerProcess

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_HEALTHY_AFTER = 30.0


class Supervised:
    """A process under supervision.

    Args:
        start: starts the process; may wait until it is usable.
        say: called with what happens, in words.
        attempts: give up after so many failures in a row; None never does.
    """

    def __init__(
        self,
        process: ServerProcess,
        start: Callable[[], Awaitable[None]],
        say: Callable[[str], None],
        *,
        attempts: int | None = None,
    ) -> None:
        self._process = process
        self._start = start
        self._say = say
        self._attempts = attempts
        self._asked = asyncio.Event()
        self._failures = 0

    def restart(self) -> None:
        """Stop the process if it runs and start it again, without a pause."""
        self._asked.set()

    async def run(self) -> None:
        """Supervise until cancelled.

        Raises:
            ProcessError: the process failed `attempts` times in a row.
        """
        while True:
            if problem := await self._one_life():
                await self._pause(problem)

    async def _one_life(self) -> str | None:
        """From start to end; returns what went wrong, None when the end was asked for."""
        began = time.monotonic()
        if not self._process.running:
            try:
                await self._start()
            except ProcessError as error:
                return str(error)
        ended = asyncio.ensure_future(self._process.wait())
        asked = asyncio.ensure_future(self._asked.wait())
        try:
            await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            asked.cancel()
        if self._asked.is_set():
            self._asked.clear()
            self._failures = 0
            await self._process.stop()
            return None
        if time.monotonic() - began > _HEALTHY_AFTER:
            self._failures = 0
        return f"{self._process.name} ended with status {self._process.returncode}"

    async def _pause(self, problem: str) -> None:
        self._failures += 1
        if self._attempts is not None and self._failures >= self._attempts:
            raise ProcessError(problem)
        pause = min(_FIRST_PAUSE * 2 ** (self._failures - 1), _LONGEST_PAUSE)
        self._say(f"{problem}; restarting in {pause:g} s")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), pause)
        self._asked.clear()
