"""What the clients of a workload may believe afterwards.

A command is *done* (2xx), *refused* (4xx: it had no effect) or *unknown* (5xx or no answer: it may have had its effect,
wholly). Entries are therefore sets: after a rename that was answered a document has that name, after one that was not
it has the new or the old. Each document is commanded by one worker, each project under one lock: what was answered
last holds.
"""

import uuid
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Command:
    """One command as its client saw it. `status` is that of the last answer, None without any."""

    number: int
    tenant_id: uuid.UUID
    kind: str
    subject: str
    outcome: Outcome = Outcome.UNKNOWN
    status: int | None = None
    unanswered: int = 0

    def __str__(self) -> str:
        tries = f" after {self.unanswered} unanswered" if self.unanswered else ""
        return f"#{self.number} {self.kind} {self.subject}: {self.outcome} ({self.status}){tries}"


@dataclass(slots=True)
class DocumentEntry:
    id: uuid.UUID
    tenant_id: uuid.UUID
    project_id: uuid.UUID
    sha256: str
    names: set[str]
    deleted: set[bool] = field(default_factory=lambda: {False})
    word: str = ""
    readable: bool = True
    stopped: bool = False


@dataclass(slots=True)
class ProjectEntry:
    id: uuid.UUID
    tenant_id: uuid.UUID
    names: set[str]
    deleted: set[bool] = field(default_factory=lambda: {False})
    members: dict[uuid.UUID, set[str | None]] = field(default_factory=dict)


@dataclass(slots=True)
class Bounds:
    """How many events of one type an aggregate must and may have published."""

    least: int = 0
    most: int = 0


@dataclass(slots=True)
class Ledger:
    """Everything one workload did. `uncertain` names creations that nobody answered: (tenant, kind, name)."""

    commands: list[Command] = field(default_factory=list)
    projects: dict[uuid.UUID, ProjectEntry] = field(default_factory=dict)
    documents: dict[uuid.UUID, DocumentEntry] = field(default_factory=dict)
    events: dict[tuple[uuid.UUID, str], Bounds] = field(default_factory=dict)
    uncertain: set[tuple[uuid.UUID, str, str]] = field(default_factory=set)

    def expect(self, subject: uuid.UUID, event_type: str, *, done: bool, unanswered: int) -> None:
        """A command that publishes one event was done or not, after so many tries without an answer."""
        bounds = self.events.setdefault((subject, event_type), Bounds())
        bounds.least += int(done)
        bounds.most += int(done) + unanswered

    def outcomes(self) -> Counter[Outcome]:
        return Counter(command.outcome for command in self.commands)

    def kinds(self) -> Counter[str]:
        return Counter(command.kind for command in self.commands)

    def summary(self) -> str:
        counts = self.outcomes()
        return ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome)
