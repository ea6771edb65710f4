"""The list of attacks names tests that exist, and says so by command."""

import subprocess
import sys

import pytest

from infra.local.home import ROOT
from tests.isolation.attacks import ATTACKS, Attack, exists


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.group}: {attack.what[:40]}")
def test_every_attack_is_tried_or_says_why_not(attack: Attack) -> None:
    assert bool(attack.tests) != bool(attack.not_tried)
    assert [test for test in attack.tests if not exists(test)] == []
    assert not attack.not_tried or len(attack.not_tried) > 30


def test_a_test_that_does_not_exist_is_noticed() -> None:
    assert exists("tests/isolation/test_attacks.py::test_a_test_that_does_not_exist_is_noticed")
    assert not exists("tests/isolation/test_attacks.py::test_nothing")
    assert not exists("tests/isolation/test_nowhere.py")
    assert not exists("tests/isolation/attacks.py")


def test_the_list_is_printed_by_a_command() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "tests.isolation.attacks"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for attack in ATTACKS:
        assert attack.what in printed
    assert printed.count("not tried: ") == sum(bool(attack.not_tried) for attack in ATTACKS)
