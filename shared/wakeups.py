"""Wake-ups within a process, for loops that would otherwise wait for their next poll."""

import asyncio


class Signal:
    """Calling it ends the current wait, or the next one: a call made while the loop was busy is not missed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __call__(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Wait until called, at most `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return
        finally:
            self._event.clear()
