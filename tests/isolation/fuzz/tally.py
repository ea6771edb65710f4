"""What a fuzzer did and found, and the table of it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

_MOST_SHOWN: Final = 20
_MOST_OF_A_PROGRAM: Final = 4000


@dataclass(slots=True)
class Failure:
    """Something wrong, how to see it again, and how often it was seen."""

    check: str
    where: str
    what: str
    how: str
    seen: int = 1

    def __str__(self) -> str:
        again = self.how[:_MOST_OF_A_PROGRAM]
        return f"{self.check} at {self.where}, seen {self.seen} times: {self.what}\n    again: {again}"


@dataclass(slots=True)
class Tally:
    """Counts of one fuzzer as one tenant. `answers`: by operation and status; `done`: rules run, examples and steps."""

    name: str
    seed: int
    seconds: float = 0.0
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: dict[tuple[str, str, str], Failure] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    slowest_revocation: float = 0.0

    def answered(self, operation: str, status: int) -> None:
        self.answers[operation, status] += 1

    def failed(self, check: str, where: str, what: str, how: str, *, kind: str = "") -> None:
        """Note a failure; the same check at the same place, with the same `kind`, is one failure."""
        key = (check, where, kind)
        if key in self.failures:
            self.failures[key].seen += 1
        else:
            self.failures[key] = Failure(check, where, what, how)

    @property
    def requests(self) -> int:
        return self.answers.total()

    def operations(self) -> set[str]:
        return {operation for operation, _ in self.answers}

    def classes(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for (_, status), count in self.answers.items():
            counts[f"{status // 100}xx"] += count
            if status == 429:
                counts["429"] += count
        return counts


def failures(tallies: Iterable[Tally]) -> list[Failure]:
    return [failure for tally in tallies for failure in tally.failures.values()]


def table(tallies: Iterable[Tally], unreached: Mapping[str, str]) -> str:
    """Everything that was counted. `unreached`: operations nobody asked, with the reason where there is one."""
    tallies = list(tallies)
    lines = ["fuzzer                    seed  seconds requests     2xx     3xx     4xx  429  5xx  failures"]
    for tally in tallies:
        counts = tally.classes()
        lines.append(
            f"{tally.name:24} {tally.seed:5} {tally.seconds:8.0f} {tally.requests:8} {counts['2xx']:7} "
            f"{counts['3xx']:7} {counts['4xx']:7} {counts['429']:4} {counts['5xx']:4} {len(tally.failures):9}"
        )
    lines += ["", f"{'operation':62} " + " ".join(f"{tally.name:>16}" for tally in tallies)]
    for operation in sorted({operation for tally in tallies for operation in tally.operations()}):
        lines.append(f"{operation:62} " + " ".join(f"{_statuses(tally, operation):>16}" for tally in tallies))
    for tally in tallies:
        if tally.done:
            lines += [
                "",
                f"{tally.name}: " + ", ".join(f"{count} {what}" for what, count in sorted(tally.done.items())),
            ]
        if tally.slowest_revocation:
            lines.append(f"{tally.name}: slowest change of access took effect after {tally.slowest_revocation:.2f} s")
    lines += ["", "not reached: " + ("; ".join(f"{name} ({why})" for name, why in unreached.items()) or "none")]
    found = failures(tallies)
    lines += ["", f"failures: {len(found) or 'none'}", *(str(failure) for failure in found[:_MOST_SHOWN])]
    return "\n".join(lines)


def _statuses(tally: Tally, operation: str) -> str:
    """Requests, and how many of them were let in."""
    counts = [(status, count) for (name, status), count in tally.answers.items() if name == operation]
    return f"{sum(count for _, count in counts)} ({sum(count for status, count in counts if status < 400)})"
