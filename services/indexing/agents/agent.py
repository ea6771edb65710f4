"""What an agent is: a versioned contract, a graph of steps, and a budget."""

from dataclasses import dataclass

from pydantic import BaseModel

from services.indexing.agents.graph import Graph


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """The most that a run may use: seconds from its start, calls of models, and their tokens of input and output."""

    seconds: float
    model_calls: int
    model_tokens: int


@dataclass(frozen=True, slots=True)
class Agent:
    """`version` grows with every change of what the agent takes or gives. `budget` is used where a run has none of its
    own. An agent that `needs_model` does not run in an installation without one."""

    name: str
    version: int
    description: str
    input: type[BaseModel]
    output: type[BaseModel]
    budget: BudgetLimits
    graph: Graph
    needs_model: bool = False
