"""A run: one system, two planted tenants, a process for each fuzzer, then a look at everything that is left."""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import httpx

from infra.postgres.roles import DATABASE
from tests.isolation.endpoints import operations
from tests.isolation.fuzz import aftermath, machine, openapi
from tests.isolation.fuzz.planted import foreign_to, plant
from tests.isolation.fuzz.tally import Tally, failures, table
from tests.support.system import running_system

# Limits would answer in the place of what they protect; and every event has to be there still when it is compared.
_EXTRA: Final = {
    "gateway": {f"QUARRY_GATEWAY_{name}_PER_MINUTE": "1000000" for name in ("ANONYMOUS", "SIGN_IN", "TENANT", "USER")},
    # The same people found a tenant for each program.
    "identity": {f"QUARRY_IDENTITY_MAX_{name}": "1000" for name in ("TENANTS_PER_USER", "NEW_TENANTS_PER_HOUR")},
    # Project roles of who left a tenant are taken back at this pace, and waited for.
    "projects": {"QUARRY_PROJECTS_CLEANING_SECONDS": "0.2"},
    "notifier": {"QUARRY_NOTIFIER_KEEP_EVENTS": "10000000"},
}
# Operations that need not be reached, each with its reason.
UNREACHABLE: Final[dict[str, str]] = {}


@dataclass(slots=True)
class Result:
    """Everything a run counted; it passed when nothing is wrong and nothing was left out."""

    tallies: list[Tally] = field(default_factory=list)
    unreached: set[str] = field(default_factory=set)

    @property
    def passed(self) -> bool:
        return bool(self.tallies) and not failures(self.tallies) and not self.unreached - UNREACHABLE.keys()

    def __str__(self) -> str:
        return table(self.tallies, {name: UNREACHABLE.get(name, "FAILED") for name in sorted(self.unreached)})


async def run(folder: Path, *, seed: int, seconds: float, round_size: int = openapi.ROUND) -> Result:
    """Both fuzzers for about `seconds`, in three processes: requests as each of two tenants, and the machine."""
    result = Result()
    async with running_system(folder, extra=_EXTRA) as system:
        planted = [await plant(system, letter) for letter in "ab"]
        async with httpx.AsyncClient(base_url=system.url) as client:
            document = (await client.get("/openapi.json")).json()
        loop = asyncio.get_running_loop()
        stack = system.stack
        assert stack.oidc is not None
        with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as processes:
            work = [
                loop.run_in_executor(
                    processes,
                    openapi.fuzz,
                    openapi.Task(
                        system.url,
                        document,
                        own,
                        foreign_to(own, [other for other in planted if other is not own]),
                        [other for other in planted if other is not own],
                        seed + number,
                        seconds,
                        round_size,
                    ),
                )
                for number, own in enumerate(planted)
            ]
            foreign = foreign_to(planted[0], planted)
            database = stack.postgres.admin_dsn(DATABASE)
            people = machine.Task(system.url, stack.oidc.issuer, database, foreign, seed, seconds)
            work.append(loop.run_in_executor(processes, machine.fuzz, people))
            result.tallies += await asyncio.gather(*work)
        left = Tally("aftermath", seed)
        await aftermath.inspect(system, planted, folder / "system.log", left)
        result.tallies.append(left)
    asked = {name for tally in result.tallies for name in tally.operations()}
    result.unreached = {operation.key for operation in operations(document)} - asked
    return result
