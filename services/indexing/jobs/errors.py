"""Why a job stops before it is indexed.

JobStopped
|-- LeaseLost           another worker has the job: stop silently
|-- CancelRequested     its cancellation was requested
|-- Obsolete            the document was deleted, or has a newer version
`-- GaveWay             it takes long, and goes on when there is a place for such jobs
JobNotFound 404
NotFailed 409           only failed work can be redriven
"""

from shared.errors import Conflict, NotFound


class JobStopped(Exception):
    """A job stops for a reason other than its document."""


class LeaseLost(JobStopped):
    """The lease ran out or its fencing token is no longer the newest."""


class CancelRequested(JobStopped):
    """Raised between two steps of the work."""


class Obsolete(JobStopped):
    """The result is no longer needed."""


class GaveWay(JobStopped):
    """The job is not finished: it waits for its turn among the jobs that take long."""


class JobNotFound(NotFound):
    detail = "There is no such job in this project."


class NotFailed(Conflict):
    code = "not_failed"
    detail = "Only failed work can be redriven."
