"""Failpoints: off unless asked for, and then exactly what was asked for."""

import asyncio
import subprocess
import sys

import pytest

from shared.failpoints import (
    EXIT_STATUS,
    VARIABLE,
    Action,
    Failpoint,
    FailpointError,
    Order,
    declared,
    failpoint,
    orders,
)


async def test_a_failpoint_nobody_asked_for_does_nothing() -> None:
    for _ in range(3):
        await Failpoint("a.b", "state", None).reach()


def test_an_order_says_what_happens_and_at_which_visit() -> None:
    assert orders("") == {}
    assert orders("relay.after_xadd=exit, a.b=raise@3,c.d=hang%2") == {
        "relay.after_xadd": Order(Action.EXIT),
        "a.b": Order(Action.RAISE, 3),
        "c.d": Order(Action.HANG, 2, every=True),
    }


@pytest.mark.parametrize(
    "text", ["a.b", "a.b=", "a.b=explode", "a.b=exit@0", "a.b=exit@-1", "A.b=exit", "a.b=exit@1@2"]
)
def test_a_malformed_order_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=VARIABLE):
        orders(text)


async def test_raising_happens_once_at_its_visit() -> None:
    point = Failpoint("a.b", "state", Order(Action.RAISE, 2))
    await point.reach()
    with pytest.raises(FailpointError, match=r"a\.b"):
        await point.reach()
    await point.reach()


async def test_every_second_visit_raises() -> None:
    point = Failpoint("a.b", "state", Order(Action.RAISE, 2, every=True))
    for _ in range(2):
        await point.reach()
        with pytest.raises(FailpointError):
            await point.reach()


async def test_hanging_ends_with_a_cancellation() -> None:
    task = asyncio.create_task(Failpoint("a.b", "state", Order(Action.HANG)).reach())
    done, _ = await asyncio.wait([task], timeout=0.05)
    assert not done
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_exiting_ends_the_process_without_any_cleaning_up() -> None:
    program = (
        "import asyncio, atexit\n"
        "from shared.failpoints import failpoint\n"
        "atexit.register(print, 'cleaned up')\n"
        "point = failpoint('tests.point', 'state')\n"
        "try:\n"
        "    asyncio.run(point.reach())\n"
        "finally:\n"
        "    print('finally')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={VARIABLE: "tests.point=exit"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (EXIT_STATUS, b"")


def test_a_name_is_declared_once() -> None:
    (taken, *_) = declared()
    for name in (taken, "NoCapitals", "no_dot"):
        with pytest.raises(ValueError, match="malformed or taken"):
            failpoint(name, "state")


def test_every_failpoint_says_what_a_crash_there_leaves_behind() -> None:
    assert all(point.state for point in declared().values())
