"""Ending one task with an error of one's own."""

import asyncio

import pytest

from services.gateway.proxy.cancel_scope import CancelScope


class Reason(Exception):
    pass


async def test_a_cut_ends_the_block_with_its_reason() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(Reason):
        async with CancelScope() as cancel_scope:
            loop.call_soon(cancel_scope.cut, Reason())
            loop.call_soon(cancel_scope.cut, ValueError())  # the first reason counts
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_deadline_can_be_moved_and_taken_away() -> None:
    async with CancelScope() as cancel_scope:
        cancel_scope.by(0.01, Reason())
        cancel_scope.by(None)
        await asyncio.wait([asyncio.create_task(asyncio.Event().wait())], timeout=0.05)
    with pytest.raises(Reason):
        async with CancelScope() as cancel_scope:
            cancel_scope.by(60, ValueError())
            cancel_scope.by(0.01, Reason())
            await asyncio.Event().wait()


async def test_a_cancellation_from_outside_stays_one() -> None:
    entered = asyncio.Event()

    async def work() -> None:
        async with CancelScope() as cancel_scope:
            cancel_scope.by(60, Reason())
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_both_at_once_are_a_cancellation() -> None:
    entered = asyncio.Event()
    cancel_scopes = []

    async def work() -> None:
        async with CancelScope() as cancel_scope:
            cancel_scopes.append(cancel_scope)
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    cancel_scopes[0].cut(Reason())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_block_goes_before_the_reason() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(KeyError):
        async with CancelScope() as cancel_scope:
            loop.call_soon(cancel_scope.cut, Reason())
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise KeyError from None


async def test_after_the_block_nothing_happens() -> None:
    async with CancelScope() as cancel_scope:
        cancel_scope.by(60, Reason())
    cancel_scope.cut(Reason())
    assert cancel_scope.reason is None
    await asyncio.wait([asyncio.create_task(asyncio.Event().wait())], timeout=0.01)
