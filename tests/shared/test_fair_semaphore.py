import asyncio
from contextlib import AsyncExitStack

import pytest

from shared.errors import Unavailable
from shared.fair_semaphore import FairSemaphore


async def test_who_asks_once_is_let_in_before_the_rest_of_a_flood() -> None:
    turns, entered = FairSemaphore(1), list[str]()

    async def ask(caller: str, name: str) -> None:
        async with turns.turn(caller):
            entered.append(name)

    async with turns.turn("owner"):
        waiting = [asyncio.create_task(ask("flood", f"flood {number}")) for number in range(3)]
        waiting += [asyncio.create_task(ask("other", "other 0")), asyncio.create_task(ask("third", "third 0"))]
        await asyncio.sleep(0)
        assert entered == []
    await asyncio.gather(*waiting)

    assert entered == ["flood 0", "other 0", "third 0", "flood 1", "flood 2"]


async def test_there_are_never_more_inside_than_places() -> None:
    turns, inside, most = FairSemaphore(3), 0, 0

    async def ask(number: int) -> None:
        nonlocal inside, most
        async with turns.turn(number % 5):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(ask(number) for number in range(40)))

    assert (most, inside) == (3, 0)


async def test_a_place_given_to_who_stops_waiting_goes_to_the_next() -> None:
    turns = FairSemaphore(1)

    async def ask(caller: str) -> str:
        async with turns.turn(caller):
            return caller

    async with AsyncExitStack() as held:
        await held.enter_async_context(turns.turn("owner"))
        gone, undecided, last = (asyncio.create_task(ask(name)) for name in ("gone", "undecided", "last"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
    undecided.cancel()  # in the moment after it was given the place

    assert await last == "last"
    for cancelled in (gone, undecided):
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    assert await ask("afterwards") == "afterwards"


async def test_nobody_holds_the_last_place() -> None:
    turns, done = FairSemaphore.with_one_to_spare(3), asyncio.Event()
    inside: list[str] = []

    async def hold(caller: str) -> None:
        async with turns.turn(caller):
            inside.append(caller)
            await done.wait()

    flood = [asyncio.create_task(hold("flood")) for _ in range(5)]
    await asyncio.sleep(0)
    assert inside == ["flood"] * 2
    other = asyncio.create_task(hold("other"))
    await asyncio.sleep(0)
    assert inside == ["flood", "flood", "other"]
    done.set()
    await asyncio.gather(*flood, other)
    assert inside.count("flood") == 5


async def test_the_only_place_is_for_everybody() -> None:
    turns = FairSemaphore.with_one_to_spare(1)
    for caller in ("one", "other"):
        async with turns.turn(caller):
            pass


async def test_a_free_place_goes_to_who_holds_the_fewest() -> None:
    turns, entered = FairSemaphore(3), list[str]()

    async def ask(caller: str) -> None:
        async with turns.turn(caller):
            entered.append(caller)

    async with turns.turn("flood"), turns.turn("flood"):
        async with turns.turn("owner"):
            waiting = [asyncio.create_task(ask(caller)) for caller in ("flood", "flood", "other")]
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert entered == ["other"]
    await asyncio.gather(*waiting)


@pytest.mark.parametrize("others", [0, 1])
async def test_who_stops_waiting_as_a_place_falls_free_is_told_nothing_else(others: int) -> None:
    turns = FairSemaphore(1)

    async def ask() -> None:
        async with turns.turn("caller"):
            pass

    async with turns.turn("owner"):
        gone, *waiting = (asyncio.create_task(ask()) for _ in range(1 + others))
        await asyncio.sleep(0)
        gone.cancel()  # and the place falls free before it runs
    with pytest.raises(asyncio.CancelledError):
        await gone
    await asyncio.wait_for(asyncio.gather(*waiting, ask()), 5)


async def test_only_so_many_wait_of_one_caller_and_in_all() -> None:
    turns = FairSemaphore(1, waiting=2, waiting_in_all=3)

    async def ask(caller: str) -> None:
        async with turns.turn(caller):
            pass

    async with turns.turn("owner"):
        waiting = [asyncio.create_task(ask("flood")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await ask("flood")
        waiting.append(asyncio.create_task(ask("other")))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await ask("third")
        waiting.pop().cancel()
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(ask("third")))
        await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
