"""Minutes of containers killed and cut off, in a scaled compose project under a workload, reproducible by their seed.

Rounds: the workload runs, faults come one after the other, sometimes two at once; then everything is healed, and within
60 seconds (G4) all invariants have to hold. Beside it clients read all the time, and no read may fail: what the gateway
repeats is the gateway's business.

Killed: any container; the gateway last, when nobody reads any more, since nobody else could repeat a read. Cut off from
every network for 60 seconds: one of several replicas, a worker, Redis. Not cut off: Postgres and the only one of its
kind, for nobody can answer in their stead for a minute.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.containers.compose import Compose, Container
from tests.containers.fault_injection import cut_off, kill, until_ready
from tests.containers.readers import Reads, reading
from tests.faults import searching, soak, workload
from tests.faults.commands import Tenant
from tests.faults.invariants import checker
from tests.faults.ledger import Ledger
from tests.faults.listeners import listeners
from tests.faults.report import Violation

SCALE: Final[Mapping[str, int]] = {"identity": 2, "projects": 2, "indexing-worker": 3, "notifier": 2}
CUT_OFF_SECONDS: Final = 60.0
_KILLED: Final = ("identity", "projects", "indexing", "indexing-worker", "notifier", "redis", "postgres")
_CUT_OFF: Final = ("identity", "projects", "indexing-worker", "notifier", "redis")
_PAUSE: Final = (4.0, 12.0)

Log = Callable[[str], None]


@dataclass
class Outcomes(soak.Outcomes):
    """What a run did and found, and what the clients that only read met in each round."""

    reads: list[Reads] = field(default_factory=list)

    def __str__(self) -> str:
        reads = (f"round {number}: {reads}" for number, reads in enumerate(self.reads, 1))
        return "\n".join((*reads, super().__str__()))


async def chaos(
    compose: Compose, *, seed: int, seconds: float, cut_seconds: float = CUT_OFF_SECONDS, tell: Log = print
) -> Outcomes:
    """Rounds of faults for about so long, with a check after each; ends early when something is broken."""
    outcomes = Outcomes(seed)
    people, readers = await workload.tenants(compose), await workload.tenants(compose, 2)
    ends = time.monotonic() + seconds
    while not outcomes.violations and time.monotonic() < ends:
        outcomes.rounds += 1
        round_seed = f"{seed}/{outcomes.rounds}"
        await _round(compose, people, readers, outcomes, round_seed, cut_seconds, tell)
        tell(f"round {outcomes.rounds}: {outcomes.faults.total()} faults so far, {len(outcomes.violations)} violations")
    return outcomes


async def _round(
    compose: Compose,
    people: Sequence[Tenant],
    readers: Sequence[Tenant],
    outcomes: Outcomes,
    seed: str,
    cut_seconds: float,
    tell: Log,
) -> None:
    ledger, over = Ledger(), asyncio.Event()
    async with checker(await compose.stores()) as check:
        since = await check.heads([person.id for person in people])
    async with listeners(people, seed=seed, since=since) as heard:
        following = asyncio.create_task(heard.follow_first_projects(people, ledger))
        working = asyncio.create_task(workload.keep_running(people, seed=seed, ledger=ledger, over=over))
        chance = random.Random(seed)
        try:
            async with reading(readers) as reads:
                outcomes.reads.append(reads)
                await _break_things(compose, outcomes, chance, cut_seconds, tell)
                await until_ready(compose)
            await _kill(compose, outcomes, chance, ("gateway",), tell)
            await until_ready(compose)
        finally:
            over.set()
            await working
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        async with checker(await compose.stores()) as check:
            report = await check.after(ledger, heard.all)
        outcomes.slowest_quiet = max(outcomes.slowest_quiet, report.seconds_to_quiet)
        outcomes.violations += report.violations
        outcomes.violations += await searching.check(people, ledger, seed=seed)
    if reads.errors:
        outcomes.violations.append(Violation("G4", "a client that only reads met an error", reads.errors))
    outcomes.commands += ledger.outcomes()


async def _break_things(
    compose: Compose, outcomes: Outcomes, chance: random.Random, cut_seconds: float, tell: Log
) -> None:
    """One container is cut off for the whole round, others are killed meanwhile."""
    victim = await _chosen(compose, chance, _CUT_OFF)
    outcomes.faults["cut off"] += 1
    tell(f"  {victim.name} cut off for {cut_seconds:.0f} s")
    until = time.monotonic() + cut_seconds
    # Not the last one standing of a service whose other replica is cut off.
    others = [service for service in _KILLED if service != victim.service]
    async with cut_off(victim):
        while time.monotonic() < until:
            await asyncio.sleep(min(chance.uniform(*_PAUSE), max(0.0, until - time.monotonic())))
            await _kill(compose, outcomes, chance, others, tell)
    await asyncio.sleep(chance.uniform(*_PAUSE))
    await _kill(compose, outcomes, chance, _KILLED, tell)


async def _kill(
    compose: Compose, outcomes: Outcomes, chance: random.Random, services: Sequence[str], tell: Log
) -> None:
    victim = await _chosen(compose, chance, services)
    await asyncio.to_thread(kill, victim)
    outcomes.faults[f"{victim.service} killed"] += 1
    tell(f"  {victim.name} killed")


async def _chosen(compose: Compose, chance: random.Random, services: Sequence[str]) -> Container:
    """A container that runs, of a service chosen first: many replicas are not chosen more often."""
    there = [item for item in await compose.containers(*services) if item.status == "running" and item.pid]
    service = chance.choice(sorted({item.service for item in there}))
    return chance.choice([item for item in there if item.service == service])
