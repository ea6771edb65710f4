"""Why a job stops before it is indexed.

JobStopped
|-- LeaseLost           another worker has the job: stop without a word
|-- CancelRequested     somebody asked for it
|-- Obsolete            the document was deleted, or a newer version came
`-- GaveWay             it takes long, and goes on when there is a place for such jobs
JobNotFound 404
NotFailed 409           only failed work can be redriven
"""

from typing import ClassVar

from shared.errors import Conflict, NotFound


class JobStopped(Exception):
    """A job ends here, through no fault of the document."""


class LeaseLost(JobStopped):
    """The lease ran out or its fencing token is no longer the newest."""


class CancelRequested(JobStopped):
    """Noticed between two steps of the work."""


class Obsolete(JobStopped):
    """Nobody wants the result any more."""


class GaveWay(JobStopped):
    """It is not over: it waits for its turn among the jobs that take long."""


class JobNotFound(NotFound):
    detail: ClassVar[str] = "There is no such job in this project."


class NotFailed(Conflict):
    code: ClassVar[str] = "not_failed"
    detail: ClassVar[str] = "Only failed work can be tried again."
