"""I10: what a service holds returns to what it held before.

Baselines are taken after a first workload, so that pools are as full as they get. Tolerances, per service:

Postgres connections    what its three pools may hold; none of them in a transaction for longer than two seconds
Redis connections       8 more: pools of commands keep what a burst needed
file descriptors        32 more; threads 8 more; child processes 1 more
resident memory         a quarter and 64 MiB more, children included

A service that was restarted holds less than its baseline, which is no violation. Tasks of the event loop are not seen
from outside; one that is stuck holds a connection, a descriptor or its entries.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import psutil
from redis.asyncio import Redis

from tests.faults.report import Violation
from tests.support.system import System

POOLS: Final = 19
REDIS_MORE: Final = 8
DESCRIPTORS_MORE: Final = 32
THREADS_MORE: Final = 8
CHILDREN_MORE: Final = 1
MEMORY_TIMES: Final = 1.25
MEMORY_MORE: Final = 64 * 2**20
_WITHIN: Final = 10.0
_LOOK_SECONDS: Final = 0.5

_CONNECTIONS: Final = """
SELECT split_part(application_name, '-', 1) AS service, count(*) AS connections, count(*) FILTER (
    WHERE state LIKE 'idle in transaction%' AND state_change < now() - interval '2 s'
) AS forgotten
FROM pg_stat_activity WHERE usename <> 'postgres' GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class Holding:
    """What one service holds now; memory in bytes."""

    postgres: int
    forgotten: int
    redis: int
    descriptors: int
    threads: int
    children: int
    memory: int


async def holdings(system: System, postgres: asyncpg.Connection, redis: Redis) -> dict[str, Holding]:
    """Of every service that runs."""
    connections = {row["service"]: row for row in await postgres.fetch(_CONNECTIONS)}
    clients: Any = await redis.client_list()
    found = {}
    for name, service in system.services.items():
        if service.pid is None:
            continue
        process = psutil.Process(service.pid)
        children = process.children(recursive=True)
        row = connections.get(name)
        found[name] = Holding(
            postgres=row["connections"] if row else 0,
            forgotten=row["forgotten"] if row else 0,
            redis=sum(1 for client in clients if client["user"] == name),
            descriptors=process.num_fds(),
            threads=process.num_threads(),
            children=len(children),
            memory=sum(_memory(member) for member in (process, *children)),
        )
    return found


async def check(
    system: System,
    postgres: asyncpg.Connection,
    redis: Redis,
    before: Mapping[str, Holding],
    *,
    within: float = _WITHIN,
) -> list[Violation]:
    """What is too much, once it has had a moment to go away."""
    deadline = time.monotonic() + within
    while True:
        now = await holdings(system, postgres, redis)
        wrong = [f"{name}: {line}" for name in before for line in compare(before[name], now.get(name))]
        if not wrong or time.monotonic() > deadline:
            return [Violation("I10", "more than before", wrong)] if wrong else []
        await asyncio.sleep(_LOOK_SECONDS)


def compare(before: Holding, after: Holding | None) -> list[str]:
    """What of a service's holding is more than it may be."""
    if after is None:
        return ["does not run"]
    bounds = (
        ("Postgres connections", before.postgres, after.postgres, max(POOLS, before.postgres)),
        ("forgotten transactions", 0, after.forgotten, 0),
        ("Redis connections", before.redis, after.redis, before.redis + REDIS_MORE),
        ("file descriptors", before.descriptors, after.descriptors, before.descriptors + DESCRIPTORS_MORE),
        ("threads", before.threads, after.threads, before.threads + THREADS_MORE),
        ("child processes", before.children, after.children, before.children + CHILDREN_MORE),
        ("bytes of memory", before.memory, after.memory, int(before.memory * MEMORY_TIMES) + MEMORY_MORE),
    )
    return [f"{was} {what} became {now}, at most {most}" for what, was, now, most in bounds if now > most]


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
