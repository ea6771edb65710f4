"""Errors of agents and their runs.

AgentNotFound 404
RunNotFound 404
ModelRequired 409      the agent needs a model, and none is configured
TooManyRuns 429        the tenant has as many unfinished runs as it may
InvalidInput 422       the input does not fit the agent's contract
"""

from typing import ClassVar

from shared.errors import Conflict, InvalidRequest, NotFound, RateLimited


class AgentNotFound(NotFound):
    detail: ClassVar[str] = "There is no such agent."


class RunNotFound(NotFound):
    detail: ClassVar[str] = "There is no such run in this project."


class ModelRequired(Conflict):
    code: ClassVar[str] = "model_required"
    detail: ClassVar[str] = "This agent needs a model, and this installation has none."


class TooManyRuns(RateLimited):
    code: ClassVar[str] = "too_many_runs"
    detail: ClassVar[str] = "Too many runs of this tenant have not ended yet; wait for some to end."


class InvalidInput(InvalidRequest):
    status: ClassVar[int] = 422
    code: ClassVar[str] = "validation_failed"
    detail: ClassVar[str] = "The input does not fit the contract of the agent."
