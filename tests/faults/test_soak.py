"""Forty seconds of random faults; `uv run faults soak --minutes 10` goes on for longer."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.topology import SERVICES
from tests.faults.report import Violation
from tests.faults.soak import Outcomes, soak
from tests.faults.systems import proxied_system

SEED = 5
SECONDS = 30.0


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_random_faults_break_no_promise(folders: Callable[[str], Path]) -> None:
    extra = {name: {f"QUARRY_{name.upper()}_BUS_IDLE_MS": "2000"} for name in SERVICES}
    async with proxied_system(folders("soak"), durable=True, extra=extra) as proxied:
        outcomes = await soak(proxied, seed=SEED, seconds=SECONDS, round_seconds=SECONDS / 2)
    print(outcomes)
    assert not outcomes.violations, outcomes
    assert outcomes.rounds >= 1
    assert outcomes.faults.total() >= 5


def test_outcomes_say_how_to_see_them_again() -> None:
    outcomes = Outcomes(seed=random.Random(1).randint(1, 99))
    outcomes.faults.update(["network cut", "network cut"])
    assert f"seed {outcomes.seed}" in str(outcomes)
    assert "2 network cut" in str(outcomes)
    assert "all invariants hold" in str(outcomes)
    outcomes.violations.append(Violation("I1", "not as the client was told", ["project gone"]))
    assert "project gone" in str(outcomes)
