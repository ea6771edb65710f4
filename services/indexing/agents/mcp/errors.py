"""Errors of tools, beside those of the services behind them.

ProjectRequired 422    the tool works in one project, and which is not clear
RunFailed 409          a question was asked, and the run that was to answer it failed
"""

from shared.errors import Conflict, InvalidRequest


class ProjectRequired(InvalidRequest):
    status = 422
    code = "project_required"
    detail = "Say which project, with project_id."


class RunFailed(Conflict):
    code = "run_failed"
    detail = "The question was not answered."
