"""Named places where a process may be made to fail: before and after every commit, publish and acknowledgement.

A module declares its places once and reaches them where a crash would hurt:

    AFTER_XADD = failpoint("relay.after_xadd", "published, not yet marked")
    ...
    await AFTER_XADD.reach()

Off unless the environment of the process turns one on: `QUARRY_FAILPOINTS="relay.after_xadd=exit@3, ..."`. Actions:
`exit` ends the process at once, without any cleanup, as SIGKILL would; `raise` raises `FailpointError`; `hang`
stops the task that reached the place until it is cancelled. It happens once, the first time the place is reached or
the `@n`-th; with `%n` every n-th time.

Lint fails when a commit, publish or acknowledgement has no failpoint in its function (`infra.checks.failpoints`).
"""

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.telemetry import get_logger

_log = get_logger(__name__)
VARIABLE: Final = "QUARRY_FAILPOINTS"
EXIT_STATUS: Final = 70
_NAME = re.compile(r"^[a-z_]+(\.[a-z_]+)+$")
_ORDER = re.compile(r"^(?P<name>[a-z_.]+)=(?P<action>[a-z]+)(?:(?P<kind>[@%])(?P<number>[1-9][0-9]*))?$")


class Action(StrEnum):
    EXIT = "exit"
    RAISE = "raise"
    HANG = "hang"


class FailpointError(RuntimeError):
    """Raised by a failpoint that was turned on."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a place that is turned on does, and on which visits."""

    action: Action
    visit: int = 1
    every: bool = False

    def is_due(self, visits: int) -> bool:
        return visits % self.visit == 0 if self.every else visits == self.visit


class Failpoint:
    """A place that may fail. `state` says what is durable there and what is not: what a crash here leaves behind."""

    __slots__ = ("_order", "_visits", "name", "state")

    def __init__(self, name: str, state: str, order: Order | None) -> None:
        self.name = name
        self.state = state
        self._order = order
        self._visits = 0

    async def reach(self) -> None:
        if self._order is None:
            return
        self._visits += 1
        if not self._order.is_due(self._visits):
            return
        if self._order.action is Action.EXIT:
            os._exit(EXIT_STATUS)
        _log.warning("failpoint_reached", failpoint=self.name, action=self._order.action.value)
        if self._order.action is Action.HANG:
            await asyncio.Event().wait()
        raise FailpointError(self.name)


def failpoint(name: str, state: str) -> Failpoint:
    """Declare a place; called once per name, when its module is imported.

    Raises:
        ValueError: the name is malformed or taken.
    """
    if not _NAME.match(name) or name in _DECLARED:
        raise ValueError(f"failpoint {name!r} is malformed or taken")
    _DECLARED[name] = Failpoint(name, state, _ORDERS.get(name))
    return _DECLARED[name]


def declared() -> Mapping[str, Failpoint]:
    """Every place declared by the modules imported so far, by name."""
    return dict(sorted(_DECLARED.items()))


def orders(text: str) -> dict[str, Order]:
    """Read the variable's value.

    Raises:
        ValueError: says which part is malformed.
    """
    return dict(_order_of(part.strip()) for part in text.split(",") if part.strip())


def turned_on() -> list[str]:
    """The names turned on in this process, whether declared yet or not."""
    return sorted(_ORDERS)


def _order_of(text: str) -> tuple[str, Order]:
    match = _ORDER.match(text)
    if match is None or match["action"] not in set(Action):
        raise ValueError(f"{VARIABLE}: {text!r} is not name=exit|raise|hang, with @n or %n after it")
    return match["name"], Order(Action(match["action"]), int(match["number"] or 1), match["kind"] == "%")


_ORDERS: Final = orders(os.environ.get(VARIABLE, ""))
_DECLARED: Final[dict[str, Failpoint]] = {}
