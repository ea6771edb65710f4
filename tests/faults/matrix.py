"""Every failpoint x {exit, raise, hang}: one system, one scenario after the other.

A scenario starts the hosting service with the failpoint turned on, at a visit chosen by the seed, and lets four tenants
give commands meanwhile.

exit    the process has to end with status 70; it is started again while the commands go on
raise   the process has to go on; whether everything comes to rest without a restart is part of the result
hang    what reached the place stays there; a moment later the process is stopped and started again

Then the invariants are checked. A failpoint that was not reached fails its scenario: nothing was shown.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import asyncpg
from redis.asyncio import Redis

from infra.local.errors import ProcessError
from infra.local.services import ServiceProcess
from shared.failpoints import EXIT_STATUS, VARIABLE, Action
from tests.faults import resources, searching, workload
from tests.faults.commands import Tenant
from tests.faults.fault_injection import admin_of, redis_of
from tests.faults.invariants import Checker, checker
from tests.faults.ledger import Ledger, Outcome
from tests.faults.listeners import listeners
from tests.faults.places import Place, place_of
from tests.faults.report import Violation
from tests.faults.resources import Holding
from tests.support.polling import eventually
from tests.support.system import System

HANG_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.05
_LONGEST_SECONDS: Final = 3600.0
# A process that is sent away is back soon, as under a supervisor.
_AWAY_SECONDS: Final = (0.1, 1.0)


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    action: Action
    service: str
    visit: int
    place: Place

    @property
    def order(self) -> str:
        return f"{self.name}={self.action.value}@{self.visit}"


@dataclass(slots=True)
class Result:
    """A line of the table."""

    scenario: Scenario
    reached: bool = False
    alone: bool | None = None
    ledger: Ledger = field(default_factory=Ledger)
    seconds_to_quiet: float = 0.0
    seconds: float = 0.0
    violations: list[Violation] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return self.reached and not self.violations

    @property
    def verdict(self) -> str:
        if not self.reached:
            return "not reached"
        if self.violations:
            return "broken: " + ", ".join(sorted({violation.invariant for violation in self.violations}))
        return "ok" if self.alone is not False else "ok, after a restart"


def scenarios(names: Sequence[str], *, seed: int, actions: Sequence[Action], service: str | None) -> list[Scenario]:
    """All failpoints with all actions; hosts take turns, visits are chosen by the seed."""
    made = []
    for number, name in enumerate(names):
        place = place_of(name)
        for turn, action in enumerate(Action):
            chance = random.Random(f"{seed}/{name}/{action}")
            host = service if service in place.services else place.services[(number + turn) % len(place.services)]
            visit = chance.randint(1, place.visits)
            if action in actions:
                made.append(Scenario(name, action, host, visit, place))
    return made


class Matrix:
    """Runs scenarios on one system. Made by `matrix`."""

    def __init__(
        self,
        system: System,
        people: Sequence[Tenant],
        stores: tuple[Checker, asyncpg.Connection, Redis],
        *,
        seed: int,
        commands: int,
    ) -> None:
        self._system = system
        self._people = people
        self._checker, self._postgres, self._redis = stores
        self._seed = seed
        self._commands = commands
        self._before: dict[str, Holding] = {}
        self._letters: set[object] = set()

    async def warm_up(self) -> None:
        """Fill pools and caches, and take the baseline of what services hold."""
        ledger = await workload.run(self._people, seed=f"{self._seed}/first", commands=self._commands)
        report = await self._checker.after(ledger)
        if report.violations:
            raise AssertionError(f"without any fault: {report}")
        self._before = await resources.holdings(self._system, self._postgres, self._redis)

    async def run(self, scenario: Scenario) -> Result:
        began = time.monotonic()
        result = Result(scenario)
        process = self._system.services[scenario.service]
        since = await self._checker.heads([person.id for person in self._people])
        seed = f"{self._seed}/{scenario.order}"
        mark = await self._arm(process, scenario)
        async with listeners(self._people, seed=seed, since=since) as heard:
            reached = asyncio.Event()
            following = asyncio.create_task(heard.follow_first_projects(self._people, result.ledger))
            mending = asyncio.create_task(self._mend(process, scenario, mark, reached))
            try:
                await self._give_commands(scenario, seed, result.ledger)
                result.reached = await _in_time(reached, scenario.place.within) and await mending
            finally:
                process.env.pop(VARIABLE, None)
                await _ended(mending, following)
            if scenario.action is Action.RAISE and result.reached:
                result.alone = not (await self._checker.quiet(heard.all)).violations
            if not result.reached or scenario.action is Action.RAISE:
                await self._start_again(process)
            report = await self._checker.after(
                result.ledger, heard.all, expected_dead_letters=await self._expected_letters(scenario)
            )
            result.violations = report.violations
            result.seconds_to_quiet = report.seconds_to_quiet
            result.violations += await searching.check(self._people, result.ledger, seed=seed)
            result.violations += await resources.check(self._system, self._postgres, self._redis, self._before)
        result.seconds = time.monotonic() - began
        return result

    async def _arm(self, process: ServiceProcess, scenario: Scenario) -> str:
        """Start the service anew with the failpoint turned on; gives the log's line from which on it counts."""
        await process.stop()
        mark = f"--- {scenario.order} {time.monotonic_ns()} ---"
        process.say(mark)
        process.env[VARIABLE] = scenario.order
        await process.start()
        try:
            await process.wait_ready()
        except ProcessError:
            # It may have been reached already.
            if process.running or process.returncode != EXIT_STATUS:
                raise
        return mark

    async def _give_commands(self, scenario: Scenario, seed: str, ledger: Ledger) -> None:
        provoke, third = scenario.place.provoke, self._commands // 3

        async def on_command(number: int) -> None:
            if number == third and provoke is not None:
                await provoke(self._system, scenario.service)

        await workload.run(self._people, seed=seed, commands=self._commands, ledger=ledger, on_command=on_command)

    async def _mend(self, process: ServiceProcess, scenario: Scenario, mark: str, reached: asyncio.Event) -> bool:
        """Wait until the failpoint is reached, and do what its action asks for. Whether it was reached."""
        if scenario.action is Action.EXIT:
            status = await process.wait()
            reached.set()
            process.env.pop(VARIABLE, None)
            await asyncio.sleep(random.Random(scenario.order).uniform(*_AWAY_SECONDS))
            await self._start_again(process)
            return status == EXIT_STATUS

        async def logged() -> bool:
            return _reached(process, scenario, mark)

        await eventually(logged, within=_LONGEST_SECONDS, every=_LOOK_SECONDS)
        reached.set()
        if scenario.action is Action.HANG:
            await asyncio.sleep(HANG_SECONDS)
            process.env.pop(VARIABLE, None)
            await self._start_again(process)
        return True

    async def _start_again(self, process: ServiceProcess) -> None:
        await process.stop()
        await process.start()
        await process.wait_ready()

    async def _expected_letters(self, scenario: Scenario) -> set[object]:
        """What was put there on purpose, by this scenario or one before."""
        if scenario.place.provoke is not None:
            self._letters |= set(await self._checker.planted_dead_letters())
        return self._letters


@asynccontextmanager
async def matrix(system: System, *, seed: int, commands: int, tenants: int = workload.TENANTS) -> AsyncIterator[Matrix]:
    """A matrix on a running system, warmed up."""
    people = await workload.tenants(system, tenants)
    async with (
        checker(system.stack) as check,
        admin_of(system.stack) as postgres,
        redis_of(system.stack) as redis,
    ):
        made = Matrix(system, people, (check, postgres, redis), seed=seed, commands=commands)
        await made.warm_up()
        yield made


async def _in_time(reached: asyncio.Event, within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            return await reached.wait()
    except TimeoutError:
        return False


async def _ended(*tasks: "asyncio.Task[object]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _reached(process: ServiceProcess, scenario: Scenario, mark: str) -> bool:
    lines = process.log
    since = lines[lines.index(mark) :] if mark in lines else lines
    return any("failpoint_reached" in line and f'"{scenario.name}"' in line for line in since)


def table(results: Sequence[Result]) -> str:
    """The results in Markdown."""
    head = ("failpoint", "service", "action", "visit", "done", "refused", "unknown", "quiet after", "took", "result")
    rows = [
        (
            result.scenario.name,
            result.scenario.service,
            result.scenario.action.value,
            str(result.scenario.visit),
            *(str(result.ledger.outcomes()[outcome]) for outcome in Outcome),
            f"{result.seconds_to_quiet:.1f} s",
            f"{result.seconds:.0f} s",
            result.verdict,
        )
        for result in results
    ]
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
