"""A second whole system, for tests in which waiting for the timeouts of the usual settings would take too long."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from shared.topology import SERVICES
from tests.support.system import System, running_system

IDLE_MS = 2_000
LEASE_SECONDS = 3.0


@pytest.fixture(scope="session")
async def hasty(folders: Callable[[str], Path]) -> AsyncIterator[System]:
    """Takes entries and jobs from dead or frozen processes within seconds. PostgreSQL keeps what it has confirmed."""
    extra = {name: {f"QUARRY_{name.upper()}_BUS_IDLE_MS": str(IDLE_MS)} for name in SERVICES}
    extra["indexing"]["QUARRY_INDEXING_JOB_LEASE_SECONDS"] = str(LEASE_SECONDS)
    async with running_system(folders("hasty"), durable=True, extra=extra) as running:
        yield running
