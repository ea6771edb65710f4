"""What counts as a leak, and what does not."""

from dataclasses import replace

import pytest

from tests.faults.fault_injection import admin_of, redis_of
from tests.faults.resources import POOLS, Holding, compare, holdings
from tests.support.system import System

MIB = 2**20
BEFORE = Holding(postgres=6, forgotten=0, redis=4, descriptors=50, threads=12, children=2, memory=200 * MIB)


def test_a_little_more_and_anything_less_is_no_leak() -> None:
    assert compare(BEFORE, BEFORE) == []
    more = Holding(postgres=POOLS, forgotten=0, redis=12, descriptors=80, threads=20, children=3, memory=300 * MIB)
    assert compare(BEFORE, more) == []
    less = Holding(postgres=1, forgotten=0, redis=1, descriptors=20, threads=4, children=0, memory=90 * MIB)
    assert compare(BEFORE, less) == []


@pytest.mark.parametrize(
    ("leaking", "what"),
    [
        (replace(BEFORE, postgres=POOLS + 1), "Postgres connections"),
        (replace(BEFORE, forgotten=1), "forgotten transactions"),
        (replace(BEFORE, redis=13), "Redis connections"),
        (replace(BEFORE, descriptors=83), "file descriptors"),
        (replace(BEFORE, threads=21), "threads"),
        (replace(BEFORE, children=4), "child processes"),
        (replace(BEFORE, memory=400 * MIB), "bytes of memory"),
    ],
)
def test_a_leak_is_found(leaking: Holding, what: str) -> None:
    (line,) = compare(BEFORE, leaking)
    assert what in line


def test_a_service_that_is_gone_is_found() -> None:
    assert compare(BEFORE, None) == ["does not run"]


@pytest.mark.long
async def test_what_a_running_system_holds_can_be_seen(system: System) -> None:
    async with admin_of(system.stack) as postgres, redis_of(system.stack) as redis:
        found = await holdings(system, postgres, redis)
        assert set(found) == set(system.services)
        assert found["gateway"].postgres == 0
        for name in ("identity", "projects", "indexing", "notifier"):
            assert 1 <= found[name].postgres <= POOLS, name
            assert found[name].redis >= 1, name
        assert found["indexing"].children >= 1
        assert all(holding.memory > 20 * MIB and holding.threads and holding.descriptors for holding in found.values())
