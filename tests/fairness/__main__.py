"""Whether one tenant can slow another: `uv run python -m tests.fairness [NAME ...] [--seconds N]`.

Every scenario runs on a fresh system of real processes. Its neighbour is timed idle, under attack, and idle again; the
operation is asked for at a steady pace, and its time counts from when it was due. It is within when the 95th percentile
under attack is at most 1.2 times that of the idle system, or at most 50 ms more, and no operation failed that did not
fail before. Exits 1 when a scenario is not within. Times are in milliseconds.

A new scenario is a module in `scenarios/` (see `tests.fairness.scenario`), listed in its `SCENARIOS`. Nothing else may
run on the machine meanwhile.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from tests.fairness.catalogue import scenarios
from tests.fairness.measuring import Measured, measure
from tests.fairness.scenario import Neighbour, Scenario
from tests.support.system import System, running_system

RATIO: Final = 1.2
MARGIN: Final = 0.05
_SETTLING: Final = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    scenario: Scenario
    idle: Measured
    attacked: Measured
    again: Measured

    @property
    def ratio(self) -> float:
        return self.attacked.p95 / self.idle.p95

    @property
    def within(self) -> bool:
        held = self.ratio <= RATIO or self.attacked.p95 - self.idle.p95 <= MARGIN
        return held and len(self.attacked.failures) <= len(self.idle.failures)


async def main(names: list[str], seconds: float) -> bool:
    """Whether all were within."""
    outcomes = []
    for scenario in (scenarios()[name] for name in names):
        print(f"{scenario.name}: {scenario.description}", flush=True)
        outcomes.append(await _run(scenario, seconds))
        print(f"  {_figures(outcomes[-1])}", flush=True)
    _report(outcomes)
    return all(outcome.within for outcome in outcomes)


async def _run(scenario: Scenario, seconds: float) -> Outcome:
    folder = Path(tempfile.mkdtemp(prefix="quarry-fairness-", dir="/tmp"))
    try:
        async with running_system(folder) as system:
            tenant_id, client = await system.tenant("neighbour")
            neighbour = scenario.neighbour(Neighbour(system, tenant_id, client))
            async with neighbour as operation, _attackers(system, scenario) as attackers:
                await measure(operation, seconds=min(seconds, 3), every=scenario.every)
                idle = await measure(operation, seconds=seconds, every=scenario.every)
                await attackers.begin()
                print("  attacking", flush=True)
                await asyncio.sleep(_SETTLING)
                attacked = await measure(operation, seconds=seconds, every=scenario.every)
                print(f"  the attack: {await attackers.end()}", flush=True)
                await asyncio.sleep(_SETTLING)
                again = await measure(operation, seconds=seconds, every=scenario.every)
    finally:
        shutil.rmtree(folder)
    for failure in sorted(set(attacked.failures))[:3]:
        print(f"  failed under attack: {failure}", flush=True)
    return Outcome(scenario, idle, attacked, again)


class _Attackers:
    """The attackers' process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout

    async def send(self, line: str) -> None:
        self._in.write(f"{line}\n".encode())
        await self._in.drain()

    async def line(self) -> str:
        line = (await self._out.readline()).decode().rstrip("\n")
        assert line, "the attackers' process has ended, see above"
        return line

    async def begin(self) -> None:
        await self.send("attack")

    async def end(self) -> str:
        await self.send("stop")
        return await self.line()


@asynccontextmanager
async def _attackers(system: System, scenario: Scenario) -> AsyncIterator[_Attackers]:
    keys = [await _key(system, f"attacker-{number}") for number in range(scenario.attackers)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fairness.attacking", scenario.name, system.url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        attackers = _Attackers(process)
        await attackers.send(json.dumps(keys))
        assert await attackers.line() == "ready"
        yield attackers
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _key(system: System, name: str) -> str:
    _, client = await system.tenant(name)
    return client.headers["Authorization"].removeprefix("Bearer ")


_COLUMNS: Final = "idle p50", "attacked p50", "idle p95", "attacked p95", "again p95", "ratio", "failed", "within"


def _cells(outcome: Outcome) -> tuple[str, ...]:
    idle, attacked, again = outcome.idle, outcome.attacked, outcome.again
    times = (idle.p50, attacked.p50, idle.p95, attacked.p95, again.p95)
    return (
        *(f"{took * 1000:.1f}" for took in times),
        f"{outcome.ratio:.2f}",
        f"{len(attacked.failures)}/{len(attacked.times)}",
        "yes" if outcome.within else "NO",
    )


def _figures(outcome: Outcome) -> str:
    return ", ".join(f"{name} {cell}" for name, cell in zip(_COLUMNS, _cells(outcome), strict=True))


def _report(outcomes: list[Outcome]) -> None:
    print("\n" + " | ".join((f"{'scenario':32}", *_COLUMNS)))
    for outcome in outcomes:
        cells = zip(_cells(outcome), _COLUMNS, strict=True)
        print(" | ".join((f"{outcome.scenario.name:32}", *(f"{cell:>{len(name)}}" for cell, name in cells))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.fairness", description="Whether one tenant can slow another."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios; all by default")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of the three measurements")
    parser.add_argument("--list", action="store_true", help="only say which scenarios there are")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(scenarios()):
        parser.error(f"no scenario is called {', '.join(sorted(unknown))}")
    if arguments.list:
        for one in scenarios().values():
            print(f"{one.name}: {one.description}")
        sys.exit()
    sys.exit(not uvloop.run(main(arguments.names or list(scenarios()), arguments.seconds)))
