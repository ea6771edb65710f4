"""Waiting for facts: with a deadline, never for a fixed time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(probe: Callable[[], Awaitable[T]], *, within: float = 10.0, every: float = 0.02) -> T:
    """The first truthy answer of `probe`.

    Raises:
        AssertionError: none within `within` seconds; says the last answer.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        answer = await probe()
        if answer:
            return answer
        assert loop.time() < deadline, f"still {answer!r} after {within:g} s"
        await asyncio.sleep(every)
