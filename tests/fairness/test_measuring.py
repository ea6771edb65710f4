"""The figures themselves: what is late or fails is never left out."""

import asyncio

from tests.fairness.catalogue import scenarios
from tests.fairness.measuring import measure


async def test_a_stall_counts_for_everything_that_was_due_in_it() -> None:
    free = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, free.set)
    measured = await measure(free.wait, seconds=0.2, every=0.01)
    assert len(measured.times) == 20
    assert measured.p50 > 0.1
    assert measured.failures == []


async def test_a_failed_operation_is_counted_and_timed() -> None:
    async def fail() -> None:
        raise AssertionError("503")

    measured = await measure(fail, seconds=0.1, every=0.02)
    assert measured.failures == ["AssertionError: 503"] * 5
    assert len(measured.times) == 5


def test_every_scenario_has_a_name_of_its_own_and_says_what_it_does() -> None:
    assert scenarios()
    assert all(scenario.description for scenario in scenarios().values())
