"""Background work goes on, whatever happens to it, until its block is left."""

import asyncio

import pytest

from shared import background
from shared.background import run_in_background
from tests.support.polling import eventually


async def test_work_that_crashes_is_begun_again() -> None:
    beginnings = 0

    async def work() -> None:
        nonlocal beginnings
        beginnings += 1
        if beginnings < 3:
            raise ZeroDivisionError
        await asyncio.Event().wait()

    async def begun_again() -> bool:
        return beginnings == 3

    async with run_in_background(work, name="work") as task:
        await eventually(begun_again)
        assert not task.done()
    assert task.cancelled()


async def test_pauses_between_crashes_grow_and_shrink_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_SETTLED_SECONDS", 0.0)
    beginnings = 0

    async def work() -> None:
        nonlocal beginnings
        beginnings += 1
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def often() -> bool:
        return beginnings >= 6

    async with run_in_background(work, name="work"):
        # Each crash comes after the work had settled: six pauses of the first length, not a growing series.
        await eventually(often, within=3)


async def test_a_cancellation_that_gets_lost_is_repeated() -> None:
    lost = 0

    async def work() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost > 1:
                    raise

    async with run_in_background(work, name="work") as task:
        await asyncio.sleep(0)
    assert task.done()
    assert lost == 2
