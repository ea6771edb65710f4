"""A few failpoints of the matrix, with a small workload; `uv run faults matrix` runs them all."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shared.failpoints import Action
from shared.topology import SERVICES
from tests.faults.ledger import Outcome
from tests.faults.matrix import Matrix, Result, Scenario, matrix, scenarios, table
from tests.faults.places import CONSUMERS, every_name, named_in_places, place_of
from tests.faults.report import Violation
from tests.support.system import running_system

SEED = 11
COMMANDS = 32
CHOSEN = (
    ("outbox.after_commit", Action.RAISE, "projects", 3),
    ("relay.after_xadd", Action.EXIT, "projects", 3),
    ("consumer.before_ack", Action.EXIT, "notifier", 2),
    ("handler.after_effect", Action.HANG, "notifier", 2),
    ("indexing.after_upsert", Action.EXIT, "indexing", 2),
    ("upload.before_keep", Action.EXIT, "projects", 2),
    ("tus.before_save", Action.EXIT, "projects", 1),
    ("tus.after_seal", Action.EXIT, "projects", 1),
)


@pytest.fixture(scope="module")
async def shaken(folders: Callable[[str], Path]) -> AsyncIterator[Matrix]:
    """A system of its own, whose consumers take over what a dead process left within two seconds."""
    extra = {name: {f"QUARRY_{name.upper()}_BUS_IDLE_MS": "2000"} for name in SERVICES}
    async with (
        running_system(folders("failpoints"), extra=extra) as system,
        matrix(system, seed=SEED, commands=COMMANDS, tenants=2) as running,
    ):
        yield running


@pytest.mark.long
@pytest.mark.parametrize(("name", "action", "service", "visit"), CHOSEN)
async def test_a_failure_there_breaks_no_promise(
    shaken: Matrix, name: str, action: Action, service: str, visit: int
) -> None:
    result = await shaken.run(Scenario(name, action, service, visit, place_of(name)))
    assert result.reached, f"{name} was not reached"
    assert not result.violations, "\n".join(str(violation) for violation in result.violations)
    assert result.ledger.outcomes()[Outcome.DONE] > 0


def test_every_failpoint_has_a_place_in_the_matrix() -> None:
    names = every_name()
    assert {"outbox.after_commit", "relay.after_xadd", "consumer.before_ack"} <= set(names)
    for name in names:
        assert place_of(name).services, name
    assert named_in_places() <= set(names)


def test_a_failpoint_that_nobody_placed_is_noticed() -> None:
    with pytest.raises(LookupError, match=r"nowhere\.at_all"):
        place_of("nowhere.at_all")


def test_the_matrix_has_every_action_and_lets_consumers_take_turns() -> None:
    made = scenarios(["consumer.before_ack", "handler.after_claim"], seed=1, actions=list(Action), service=None)
    assert [(item.name, item.action) for item in made] == [
        (name, action) for name in ("consumer.before_ack", "handler.after_claim") for action in Action
    ]
    assert {item.service for item in made} == set(CONSUMERS)
    assert made == scenarios(["consumer.before_ack", "handler.after_claim"], seed=1, actions=list(Action), service=None)
    only = scenarios(["relay.after_xadd"], seed=1, actions=[Action.HANG], service="indexing")
    assert [(item.action, item.service) for item in only] == [(Action.HANG, "indexing")]


def test_a_scenario_passes_only_when_its_failpoint_was_reached_and_nothing_broke() -> None:
    scenario = scenarios(["relay.after_xadd"], seed=1, actions=[Action.RAISE], service=None)[0]
    result = Result(scenario)
    assert not result.passed
    assert "not reached" in table([result])
    reached = replace(result, reached=True, alone=True)
    assert reached.passed
    assert reached.verdict == "ok"
    assert replace(reached, alone=False).verdict == "ok, after a restart"
    broken = replace(reached, violations=[Violation("I4", "versions not contiguous", [])])
    assert not broken.passed
    assert broken.verdict == "broken: I4"
