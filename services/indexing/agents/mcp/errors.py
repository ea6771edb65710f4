"""Errors of tools, beside those of the services behind them.

ProjectRequired 422    the tool works in one project, and which is not clear
VersionReplaced 409    the id names a version that is no longer the live one
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


class VersionReplaced(Conflict):
    code = "version_replaced"
    detail = "This version of the document was replaced by a newer one."
