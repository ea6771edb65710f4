"""HTTP shapes of runs."""

import uuid
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from services.indexing.agents.contracts import AnswerInput, Exhausted
from services.indexing.agents.runs.models import OnDisconnect
from shared.events.indexing import RunStatus
from shared.request_bodies import Input

AgentName = Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,31}$")]


class BudgetIn(Input):
    """The most a run may use; what is left out is the agent's default."""

    seconds: Annotated[float | None, Field(gt=0, le=600, allow_inf_nan=False)] = None
    model_calls: Annotated[int | None, Field(ge=0, le=20)] = None
    model_tokens: Annotated[int | None, Field(ge=0, le=1_000_000)] = None


class RunRequest(Input):
    """A run to be started. With `stream` the response is the run's event stream."""

    agent: AgentName
    input: dict[str, Any]
    budget: BudgetIn = BudgetIn()
    on_disconnect: OnDisconnect = "continue"
    stream: bool = False


class AskRequest(AnswerInput):
    """A run of the agent `answer`. With `stream` the response is the run's event stream, else the run once it ended."""

    budget: BudgetIn = BudgetIn()
    on_disconnect: OnDisconnect = "continue"
    stream: bool = True

    def run(self) -> RunRequest:
        """The same as a request for a run."""
        question = self.model_dump(mode="json", by_alias=True, exclude_none=True, include=set(AnswerInput.model_fields))
        return RunRequest(
            agent="answer", input=question, budget=self.budget, on_disconnect=self.on_disconnect, stream=self.stream
        )


class Budget(BaseModel):
    seconds: float
    model_calls: int
    model_tokens: int


class UsageOut(BaseModel):
    """What a run has used: calls and tokens as its budget counts them, and tokens as models reported them."""

    model_calls: int
    model_tokens: int
    input_tokens: int
    output_tokens: int


class StepOut(BaseModel):
    """A step that has begun. `attempts` is more than 1 after a takeover."""

    step: str
    attempts: int
    started_at: datetime
    ended_at: datetime | None


class RunError(BaseModel):
    code: str
    reason: str


class RunOut(BaseModel):
    """A run. `exhausted` is the budget that made it `incomplete`."""

    id: uuid.UUID
    project_id: uuid.UUID
    agent: str
    agent_version: int
    status: RunStatus
    input: dict[str, Any]
    output: dict[str, Any] | None
    exhausted: Exhausted | None
    error: RunError | None
    budget: Budget
    usage: UsageOut
    on_disconnect: OnDisconnect
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class RunDetail(RunOut):
    """A run with its steps, in the order in which they began."""

    steps: list[StepOut]


class FollowedRun(BaseModel):
    """A run as the service that streams its events has to know it: `last_sequence` numbers its newest event."""

    run: RunDetail
    last_sequence: int
