"""Errors of tools, beside those of the services behind them.

ProjectRequired 422    the tool works in one project, and which is not clear
RunFailed 409          a question was asked, and the run that was to answer it failed
"""

from typing import ClassVar

from shared.errors import Conflict, InvalidRequest


class ProjectRequired(InvalidRequest):
    status: ClassVar[int] = 422
    code: ClassVar[str] = "project_required"
    detail: ClassVar[str] = "Say which project, with project_id."


class RunFailed(Conflict):
    code: ClassVar[str] = "run_failed"
    detail: ClassVar[str] = "The question was not answered."
