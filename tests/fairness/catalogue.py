"""All scenarios by name: each module in `scenarios/` lists its own in `SCENARIOS`."""

import importlib
from collections.abc import Mapping
from pathlib import Path

from tests.fairness.scenario import Scenario


def scenarios() -> Mapping[str, Scenario]:
    """In the order of their modules."""
    known: dict[str, Scenario] = {}
    for path in sorted(Path(__file__).with_name("scenarios").glob("*.py")):
        listed: tuple[Scenario, ...] = importlib.import_module(f"tests.fairness.scenarios.{path.stem}").SCENARIOS
        for scenario in listed:
            assert scenario.name not in known, f"two scenarios are called {scenario.name}"
            known[scenario.name] = scenario
    return known
