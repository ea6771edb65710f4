import asyncio
from contextlib import AsyncExitStack

import pytest

from services.indexing.vectors.turns import Turns


async def test_who_asks_once_is_let_in_before_the_rest_of_a_flood() -> None:
    turns, entered = Turns(1), list[str]()

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
    turns, inside, most = Turns(3), 0, 0

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
    turns = Turns(1)

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
