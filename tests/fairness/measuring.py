"""Times of one operation, started at a steady pace whether or not the one before it has been answered.

Whoever waited for the answer first would measure a stall of ten seconds once, and miss all that was not asked in it.
"""

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from typing import Final

from tests.fairness.scenario import Operation

# An operation still running this long after the last one began has failed.
_LATEST: Final = 60.0
_AT_ONCE: Final = 32


@dataclass(slots=True)
class Measured:
    """Seconds from when each operation was due until it was done, and how many failed."""

    times: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def p50(self) -> float:
        return statistics.median(self.times)

    @property
    def p95(self) -> float:
        return statistics.quantiles(self.times, n=20, method="inclusive")[-1]


async def measure(operation: Operation, *, seconds: float, every: float) -> Measured:
    """Start `operation` every `every` seconds for `seconds`; a failed one counts as long as it took to fail."""
    measured = Measured()
    free = asyncio.Semaphore(_AT_ONCE)

    async def one(due: float) -> None:
        try:
            async with free:
                await operation()
        except Exception as error:  # noqa: BLE001  # whatever the neighbour met is what is measured
            measured.failures.append(f"{type(error).__name__}: {error}"[:200])
        finally:
            measured.times.append(time.perf_counter() - due)

    began = time.perf_counter()
    running = []
    for number in range(max(2, round(seconds / every))):
        due = began + number * every
        await asyncio.sleep(due - time.perf_counter())
        running.append(asyncio.create_task(one(due)))
    _, late = await asyncio.wait(running, timeout=_LATEST)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    measured.failures += ["no answer"] * len(late)
    return measured
