"""What a check found."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

_MOST_EVIDENCE: Final = 5


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken invariant, with the rows that show it."""

    invariant: str
    what: str
    evidence: list[str]

    def __str__(self) -> str:
        shown = "".join(f"\n    {line}" for line in self.evidence[:_MOST_EVIDENCE])
        more = len(self.evidence) - _MOST_EVIDENCE
        return f"{self.invariant} {self.what}{shown}" + (f"\n    and {more} more" if more > 0 else "")


@dataclass(slots=True)
class Report:
    """What was found after a fault."""

    seconds_to_quiet: float = 0.0
    violations: list[Violation] = field(default_factory=list)

    def add(self, violations: Iterable[Violation]) -> None:
        self.violations += violations

    def __str__(self) -> str:
        if not self.violations:
            return f"all invariants hold, quiet after {self.seconds_to_quiet:.1f} s"
        return "\n".join(str(violation) for violation in self.violations)
