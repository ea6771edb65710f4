"""Minutes of random faults under a continuous workload, reproducible by their seed.

Rounds of about a minute: the workload runs, faults come one after the other, each for a while, some at the same time;
then everything is healed, and within 60 seconds (G4) all invariants have to hold. A service that ends is started again
a moment later, as under a supervisor.

Faults: kill -9 of a service, a service started with a failpoint turned on, a service frozen (SIGSTOP) for some seconds;
Redis flushed, killed, or frozen; Postgres restarted at once (SIGQUIT) or killed; the network between one service and
Postgres or Redis late, reset, cut in the middle, silent, or refusing.

The seed decides which faults come in which order and how each goes; how many there is time for is up to the machine.
Postgres has to be durable here: it is killed.
"""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from infra.local.services import ServiceProcess
from shared.failpoints import VARIABLE, Action
from shared.topology import SERVICES
from tests.faults import resources, searching, workload
from tests.faults.commands import Tenant
from tests.faults.fault_injection import admin_of, frozen, redis_of, restart_postgres, restart_redis
from tests.faults.invariants import checker
from tests.faults.ledger import Ledger, Outcome
from tests.faults.listeners import listeners
from tests.faults.places import every_name, place_of
from tests.faults.proxy import FaultProxy
from tests.faults.report import Violation
from tests.faults.resources import Holding
from tests.faults.systems import ProxiedSystem
from tests.support.polling import eventually

ROUND_SECONDS: Final = 60.0
_PAUSE: Final = (0.5, 3.0)
_SUPERVISION_SECONDS: Final = 0.5
_READY_SECONDS: Final = 60.0

Log = Callable[[str], None]
Fault = Callable[["Chaos"], Awaitable[str]]


@dataclass(slots=True)
class Outcomes:
    """What a soak did and found."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    commands: Counter[Outcome] = field(default_factory=Counter)
    rounds: int = 0
    slowest_quiet: float = 0.0
    violations: list[Violation] = field(default_factory=list)

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        commands = ", ".join(f"{self.commands[outcome]} {outcome}" for outcome in Outcome)
        found = "\n".join(str(violation) for violation in self.violations) or "all invariants hold"
        return (
            f"seed {self.seed}, {self.rounds} rounds, {self.faults.total()} faults: {faults}\n"
            f"commands: {commands}\nquiet at the latest after {self.slowest_quiet:.1f} s\n{found}"
        )


class Chaos:
    """What one fault works with. `lock`, of all faults, is held by whoever stops and starts a process."""

    def __init__(self, proxied: ProxiedSystem, seed: str, lock: asyncio.Lock) -> None:
        self.system = proxied.system
        self.proxied = proxied
        self.seed = seed
        self.chance = random.Random(seed)
        self.lock = lock

    def of_one_fault(self, number: int) -> "Chaos":
        """Faults at the same time must not take each other's chances."""
        return Chaos(self.proxied, f"{self.seed}/{number}", self.lock)

    def service(self) -> ServiceProcess:
        return self.system.services[self.chance.choice(SERVICES)]

    def proxy(self) -> tuple[str, FaultProxy]:
        links = sorted(self.proxied.proxies, key=lambda link: (link.service, link.server))
        link = self.chance.choice(links)
        return f"{link.service} to {link.server}", self.proxied.proxies[link]

    async def a_while(self, least: float = 1.0, most: float = 6.0) -> None:
        await asyncio.sleep(self.chance.uniform(least, most))


# --- faults ----------------------------------------------------------------------------------------------------------


async def kill_service(chaos: Chaos) -> str:
    process = chaos.service()
    async with chaos.lock:
        process.kill()
        await process.wait()
        await asyncio.sleep(chaos.chance.uniform(0.0, 2.0))
        await process.start()
    return process.name


async def supervise(chaos: Chaos) -> None:
    """Start what has ended, until cancelled. The next life of a process has no failpoint."""
    while True:
        await asyncio.sleep(_SUPERVISION_SECONDS)
        async with chaos.lock:
            for process in chaos.system.services.values():
                if not process.running:
                    process.env.pop(VARIABLE, None)
                    await process.start()


async def arm_failpoint(chaos: Chaos) -> str:
    """Start a service anew with a failpoint that may be reached or not."""
    name = chaos.chance.choice([name for name in every_name() if place_of(name).provoke is None])
    process = chaos.system.services[chaos.chance.choice(place_of(name).services)]
    action, visit = chaos.chance.choice(list(Action)), chaos.chance.randint(1, 10)
    async with chaos.lock:
        await process.stop()
        process.env[VARIABLE] = f"{name}={action.value}@{visit}"
        await process.start()
    await chaos.a_while(4.0, 8.0)
    async with chaos.lock:
        process.env.pop(VARIABLE, None)
        await process.stop()
        await process.start()
    return f"{process.name} at {name}={action.value}@{visit}"


async def freeze_service(chaos: Chaos) -> str:
    process = chaos.service()
    async with chaos.lock:
        if process.running:
            async with frozen(process):
                await chaos.a_while(2.0, 8.0)
    return process.name


async def flush_redis(chaos: Chaos) -> str:
    async with chaos.lock, redis_of(chaos.system.stack) as redis:
        await redis.flushdb()
    return ""


async def kill_redis(chaos: Chaos) -> str:
    empty = chaos.chance.random() < 0.3
    async with chaos.lock:
        await restart_redis(chaos.system.stack, empty=empty)
    return "comes back empty" if empty else "comes back"


async def freeze_redis(chaos: Chaos) -> str:
    async with chaos.lock, frozen(chaos.system.stack.redis.process):
        await chaos.a_while(2.0, 6.0)
    return ""


async def restart_postgres_at_once(chaos: Chaos) -> str:
    async with chaos.lock:
        await restart_postgres(chaos.system.stack, signal.SIGQUIT)
    return ""


async def kill_postgres(chaos: Chaos) -> str:
    async with chaos.lock:
        await restart_postgres(chaos.system.stack, signal.SIGKILL)
    return ""


async def slow_network(chaos: Chaos) -> str:
    name, proxy = chaos.proxy()
    proxy.delay(chaos.chance.uniform(0.02, 0.3))
    await chaos.a_while()
    await proxy.heal()
    return name


async def reset_network(chaos: Chaos) -> str:
    name, proxy = chaos.proxy()
    proxy.reset()
    await chaos.a_while(0.0, 3.0)
    await proxy.heal()
    return name


async def cut_network(chaos: Chaos) -> str:
    name, proxy = chaos.proxy()
    proxy.cut_after(chaos.chance.randint(1, 20_000))
    await chaos.a_while()
    await proxy.heal()
    return name


async def silent_network(chaos: Chaos) -> str:
    name, proxy = chaos.proxy()
    proxy.blackhole()
    await chaos.a_while(1.0, 8.0)
    await proxy.heal()
    return name


async def refusing_network(chaos: Chaos) -> str:
    name, proxy = chaos.proxy()
    await proxy.refuse()
    await chaos.a_while()
    await proxy.heal()
    return name


FAULTS: Final[dict[str, tuple[int, Fault]]] = {
    "service killed": (5, kill_service),
    "failpoint": (4, arm_failpoint),
    "service frozen": (3, freeze_service),
    "Redis flushed": (2, flush_redis),
    "Redis killed": (2, kill_redis),
    "Redis frozen": (1, freeze_redis),
    "Postgres restarted": (2, restart_postgres_at_once),
    "Postgres killed": (1, kill_postgres),
    "network slow": (2, slow_network),
    "network reset": (3, reset_network),
    "network cut": (3, cut_network),
    "network silent": (2, silent_network),
    "network refusing": (2, refusing_network),
}


# --- the soak --------------------------------------------------------------------------------------------------------


async def soak(
    proxied: ProxiedSystem,
    *,
    seed: int,
    seconds: float,
    round_seconds: float = ROUND_SECONDS,
    tell: Log = print,
) -> Outcomes:
    """Rounds of faults for about so long, with a check after each; ends early when an invariant is broken."""
    outcomes = Outcomes(seed)
    chaos = Chaos(proxied, str(seed), asyncio.Lock())
    people = await workload.tenants(proxied.system)
    await workload.run(people, seed=f"{seed}/first", commands=workload.COMMANDS_AT_ONCE)
    async with redis_of(proxied.system.stack) as redis, admin_of(proxied.system.stack) as admin:
        baseline = await resources.holdings(proxied.system, admin, redis)
    ends = time.monotonic() + seconds
    while not outcomes.violations and time.monotonic() < ends:
        outcomes.rounds += 1
        left = min(round_seconds, ends - time.monotonic())
        await _round(chaos, people, outcomes, baseline, f"{seed}/{outcomes.rounds}", left, tell)
        tell(f"round {outcomes.rounds}: {outcomes.faults.total()} faults so far, {len(outcomes.violations)} violations")
    return outcomes


async def _round(
    chaos: Chaos,
    people: Sequence[Tenant],
    outcomes: Outcomes,
    baseline: dict[str, Holding],
    seed: str,
    seconds: float,
    tell: Log,
) -> None:
    ledger = Ledger()
    async with checker(chaos.system.stack) as check:
        since = await check.heads([person.id for person in people])
    async with listeners(people, seed=seed, since=since) as heard:
        following = asyncio.create_task(heard.follow_first_projects(people, ledger))
        over = asyncio.Event()
        working = asyncio.create_task(workload.keep_running(people, seed=seed, ledger=ledger, over=over))
        supervising = asyncio.create_task(supervise(chaos))
        try:
            await _break_things(chaos, outcomes, time.monotonic() + seconds, tell)
        finally:
            over.set()
            outcomes.violations += await _heal(chaos)
            await working
            for task in (following, supervising):
                task.cancel()
            await asyncio.gather(following, supervising, return_exceptions=True)
        async with checker(chaos.system.stack) as check:
            report = await check.after(ledger, heard.all)
        outcomes.slowest_quiet = max(outcomes.slowest_quiet, report.seconds_to_quiet)
        outcomes.violations += report.violations
        outcomes.violations += await searching.check(people, ledger, seed=seed)
        async with redis_of(chaos.system.stack) as redis, admin_of(chaos.system.stack) as admin:
            outcomes.violations += await resources.check(chaos.system, admin, redis, baseline)
    outcomes.commands += ledger.outcomes()


async def _break_things(chaos: Chaos, outcomes: Outcomes, until: float, tell: Log) -> None:
    """One fault after the other, and every third time two at once."""
    while time.monotonic() < until:
        kinds = chaos.chance.choices(
            list(FAULTS), [weight for weight, _ in FAULTS.values()], k=2 if chaos.chance.random() < 0.3 else 1
        )
        first = outcomes.faults.total()
        told = await asyncio.gather(
            *(FAULTS[kind][1](chaos.of_one_fault(first + place)) for place, kind in enumerate(kinds))
        )
        for kind, what in zip(kinds, told, strict=True):
            outcomes.faults[kind] += 1
            tell(f"  {kind} {what}".rstrip())
        await chaos.a_while(*_PAUSE)


async def _heal(chaos: Chaos) -> list[Violation]:
    """Everything can reach everything, and runs; a service that is not ready in time breaks G4."""
    await chaos.proxied.heal()
    found = await asyncio.gather(*(_until_ready(process) for process in chaos.system.services.values()))
    return [violation for violation in found if violation is not None]


async def _until_ready(process: ServiceProcess) -> Violation | None:
    try:
        await eventually(process.ready, within=_READY_SECONDS, every=0.1)
    except AssertionError:
        return Violation("G4", f"{process.name} is not ready", process.log[-5:])
    return None
