"""Rounds of an attack."""

import asyncio
import functools

from tests.fairness.scenario import Operation


def at_once(count: int, action: Operation) -> Operation:
    """A round of `count` actions side by side."""
    return functools.partial(_at_once, count, action)


async def _at_once(count: int, action: Operation) -> None:
    outcomes = await asyncio.gather(*(action() for _ in range(count)), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
