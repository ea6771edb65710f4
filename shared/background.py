"""Work that runs beside requests for as long as the process does: relays, followers, workers, cleaners.

Guarantees: crashed work is logged and restarted after a growing pause; leaving the block ends it.
Does not guarantee: anything about what was in progress at a crash; the work must be safe to restart.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from shared.resilience import Backoff
from shared.telemetry import get_logger

_SETTLED_SECONDS: Final = 60.0
_log = get_logger(__name__)


@asynccontextmanager
async def run_in_background(work: Callable[[], Awaitable[None]], *, name: str) -> AsyncIterator["asyncio.Task[None]"]:
    """Run `work` beside the block, again whenever it raises; cancel it and wait for it at the end."""
    task = asyncio.create_task(_keep_running(work, name), name=name)
    try:
        yield task
    finally:
        # Cancelled until it ends: redis-py sends under `asyncio.wait_for`, which on Python 3.11 loses a cancellation
        # that arrives as the sending completes.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.5)


async def _keep_running(work: Callable[[], Awaitable[None]], name: str) -> None:
    clock = asyncio.get_running_loop().time
    backoff = Backoff(first=0.2, most=10.0)
    while True:
        began = clock()
        try:
            return await work()
        except Exception as error:
            if clock() - began > _SETTLED_SECONDS:
                backoff.reset()
            delay = backoff.next()
            _log.error("background_task_crashed", task=name, retry_in=round(delay, 2), exc_info=error)
        await asyncio.sleep(delay)
