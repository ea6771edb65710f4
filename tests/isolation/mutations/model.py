"""What a mutation is, and what becomes of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Change:
    """`old` stands exactly once in the file and becomes `new`."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """One guard taken away in the source, and the tests that have to notice.

    Args:
        name: `<area>-<what>`, unique.
        guard: what keeps somebody out, as the report says it.
        changes: one, or several that belong together.
        tests: node ids; one of them must fail.
    """

    name: str
    guard: str
    changes: Sequence[Change]
    tests: Sequence[str]

    @property
    def area(self) -> str:
        return self.name.partition("-")[0]


class Verdict(StrEnum):
    KILLED = "killed"
    SURVIVED = "SURVIVED"
    BROKEN = "BROKEN"
    """No test failed as a test: it could not begin, or did not end. Proves nothing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`evidence` is the test that failed, or what else happened."""

    name: str
    guard: str
    verdict: Verdict
    evidence: str
    seconds: float


def replace(path: str, old: str, new: str) -> tuple[Change, ...]:
    return (Change(path, old, new),)
