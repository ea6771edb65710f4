"""Commands of four tenants through the gateway, eight at a time, reproducible by their seed.

    people = await tenants(system)
    async with listeners(people) as transcripts:
        ledger = await run(people, seed=1, commands=200)

A client repeats by itself only what may be repeated: what never reached the gateway, and PUT, PATCH and DELETE. After
any failure it waits a moment. What no answer was had for stays unknown, see `tests.faults.ledger`.
"""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import httpx

from tests.faults.commands import Project, Tenant, Worker
from tests.faults.ledger import Ledger
from tests.support.members import new_members
from tests.support.system import System

TENANTS: Final = 4
WORKERS: Final = 8
REQUEST_SECONDS: Final = 8.0
COMMANDS_AT_ONCE: Final = 40
_REST_SECONDS: Final = 3.0
_MEMBERS: Final = 8


class Landlord(Protocol):
    """A system that takes in tenants."""

    async def tenant(self, name: str) -> tuple[str, httpx.AsyncClient]: ...


async def tenants(system: Landlord, count: int = TENANTS) -> list[Tenant]:
    """New tenants, each with an owner."""
    made = [await system.tenant(f"faults-{uuid.uuid4().hex[:8]}-{number}") for number in range(count)]
    people = [Tenant(uuid.UUID(tenant_id), client) for tenant_id, client in made]
    if isinstance(system, System):
        for person in people:
            person.members = await new_members(system.stack, str(person.id), _MEMBERS)
    for person in people:
        person.client.timeout = httpx.Timeout(REQUEST_SECONDS, connect=2.0)
    return people


async def run(
    people: Sequence[Tenant],
    *,
    seed: int | str,
    commands: int = 200,
    workers: int = WORKERS,
    ledger: Ledger | None = None,
    on_command: Callable[[int], Awaitable[None]] | None = None,
) -> Ledger:
    """Give `commands` commands, shared out evenly; returns when the last was answered or given up.

    Args:
        ledger: filled while it runs, for whoever wants to watch.
        on_command: awaited with the number of commands begun so far, before each.
    """
    ledger = Ledger() if ledger is None else ledger
    shared: dict[uuid.UUID, list[Project]] = {person.id: [] for person in people}
    begun = 0

    async def work(number: int) -> None:
        nonlocal begun
        person = people[number % len(people)]
        worker = Worker(person, ledger, shared[person.id], random.Random(f"{seed}/{number}"), number)
        for _ in range(commands // workers + (number < commands % workers)):
            begun += 1
            if on_command is not None:
                await on_command(begun)
            await worker.step()

    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            group.create_task(work(number))
    return ledger


async def keep_running(people: Sequence[Tenant], *, seed: str, ledger: Ledger, over: asyncio.Event) -> None:
    """Some commands, a rest, and so on until it is over."""
    number = 0
    while not over.is_set():
        number += 1
        await run(people, seed=f"{seed}/{number}", commands=COMMANDS_AT_ONCE, ledger=ledger)
        # Bounded: faults are to be survived, not more documents than can be indexed.
        await asyncio.sleep(_REST_SECONDS)
