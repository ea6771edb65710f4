"""Errors of agents and their runs.

AgentNotFound 404
RunNotFound 404
ModelRequired 409      the agent needs a model, and none is configured
TooManyRuns 429        the tenant has as many unfinished runs as it may
InvalidInput 422       the input does not fit the agent's contract
"""

from shared.errors import Conflict, InvalidRequest, NotFound, RateLimited


class AgentNotFound(NotFound):
    detail = "There is no such agent."


class RunNotFound(NotFound):
    detail = "There is no such run in this project."


class ModelRequired(Conflict):
    code = "model_required"
    detail = "This agent needs a model, and this installation has none."


class TooManyRuns(RateLimited):
    code = "too_many_runs"
    detail = "Too many runs of this tenant have not ended yet; wait for some to end."


class InvalidInput(InvalidRequest):
    status = 422
    code = "validation_failed"
    detail = "The input does not fit the contract of the agent."
