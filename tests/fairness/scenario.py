"""What a scenario of fairness is made of.

A scenario has a neighbour, whose operation is timed, and an attack of one or more other tenants. The attack runs in a
process of its own, as it would on a machine of its own, and reaches the system only by its public address.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import httpx

from tests.support.system import System

Operation = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The tenant that minds its own business; `client` holds an API key of its owner."""

    system: System
    tenant_id: str
    client: httpx.AsyncClient


@dataclass(frozen=True, slots=True)
class Attacker:
    """One attacking tenant; `client` holds `key`, an API key of its owner, and opens any number of connections."""

    url: str
    key: str
    client: httpx.AsyncClient


@dataclass(frozen=True, slots=True)
class Scenario:
    """One attack and whom it is tried on.

    Attributes:
        neighbour: prepares on entering, and gives the operation that is timed. One that raises has failed.
        attack: prepares on entering, and gives one round of the attack. Rounds follow each other while the neighbour is
            measured; the last one is cancelled. Answers that refuse are expected, and so is `httpx.HTTPError`. Each
            round is bounded in count and size.
        attackers: how many tenants attack.
        every: seconds from one operation of the neighbour to the next; well above what it takes on an idle system.
    """

    name: str
    description: str
    neighbour: Callable[[Neighbour], AbstractAsyncContextManager[Operation]]
    attack: Callable[[Sequence[Attacker]], AbstractAsyncContextManager[Operation]]
    attackers: int = 1
    every: float = 0.1
