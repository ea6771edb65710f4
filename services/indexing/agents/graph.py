"""A graph of steps, as data: what an agent does, and in which order.

A step reads what the steps before it have given, and gives an output that can be stored as JSON, and an edge, which
says by name where the graph goes on. A step has no effect of its own: what it gives is stored, and its events are sent,
in one transaction once it has ended. Only text is sent while a step is under way.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from services.indexing.agents.contracts import ModelBudget, Usage
from services.indexing.agents.knowledge import Knowledge
from services.indexing.agents.writing import Writing
from shared.events.indexing import RunEvent

NEXT: Final = "next"
"""The edge of a step that decides nothing."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run is about; none of it changes while it lasts."""

    run_id: uuid.UUID
    tenant_id: uuid.UUID
    project_id: uuid.UUID
    agent: str
    input: Mapping[str, Any]


AddText = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a step may use. `outputs` are those of steps that have ended, by name, of each the latest. `add_text` sends
    more of the answer's text to clients.
    """

    run: RunFacts
    outputs: Mapping[str, Mapping[str, Any]]
    knowledge: Knowledge
    budget: ModelBudget
    writing: Writing
    add_text: AddText


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step gives. `events`: classes of events and their fields; `documents`: those whose text it has read."""

    output: dict[str, Any]
    edge: str = NEXT
    events: tuple[tuple[type[RunEvent], dict[str, Any]], ...] = ()
    documents: frozenset[uuid.UUID] = frozenset()
    usage: Usage | None = None


Step = Callable[[StepContext], Awaitable[StepResult]]


@dataclass(frozen=True, slots=True)
class Graph:
    """Steps by name, and for each step and edge the one that follows. Without one, the run has ended.

    Args:
        result: the step whose latest output is that of the agent.
        rewrites: steps that write the answer's text anew, so that what was sent of it before does not count.
    """

    first: str
    steps: Mapping[str, Step]
    edges: Mapping[tuple[str, str], str]
    result: str
    rewrites: frozenset[str] = field(default=frozenset())

    def __post_init__(self) -> None:
        named = {self.first, self.result, *self.edges.values(), *self.rewrites, *(step for step, _ in self.edges)}
        if unknown := named - self.steps.keys():
            raise ValueError(f"no such steps: {sorted(unknown)}")

    def after(self, step: str, edge: str) -> str | None:
        """The step that follows, or None at the end."""
        return self.edges.get((step, edge))
