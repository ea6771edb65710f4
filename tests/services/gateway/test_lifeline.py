"""Ending one task with an error of one's own."""

import asyncio

import pytest

from services.gateway.lifeline import Lifeline


class Reason(Exception):
    pass


async def test_a_cut_ends_the_block_with_its_reason() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(Reason):
        async with Lifeline() as lifeline:
            loop.call_soon(lifeline.cut, Reason())
            loop.call_soon(lifeline.cut, ValueError())  # the first reason counts
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_deadline_can_be_moved_and_taken_away() -> None:
    async with Lifeline() as lifeline:
        lifeline.by(0.01, Reason())
        lifeline.by(None)
        await asyncio.wait([asyncio.create_task(asyncio.Event().wait())], timeout=0.05)
    with pytest.raises(Reason):
        async with Lifeline() as lifeline:
            lifeline.by(60, ValueError())
            lifeline.by(0.01, Reason())
            await asyncio.Event().wait()


async def test_a_cancellation_from_outside_stays_one() -> None:
    entered = asyncio.Event()

    async def work() -> None:
        async with Lifeline() as lifeline:
            lifeline.by(60, Reason())
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_both_at_once_are_a_cancellation() -> None:
    entered = asyncio.Event()
    lifelines = []

    async def work() -> None:
        async with Lifeline() as lifeline:
            lifelines.append(lifeline)
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    lifelines[0].cut(Reason())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_block_goes_before_the_reason() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(KeyError):
        async with Lifeline() as lifeline:
            loop.call_soon(lifeline.cut, Reason())
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise KeyError from None


async def test_after_the_block_nothing_happens() -> None:
    async with Lifeline() as lifeline:
        lifeline.by(60, Reason())
    lifeline.cut(Reason())
    assert lifeline.reason is None
    await asyncio.wait([asyncio.create_task(asyncio.Event().wait())], timeout=0.01)
