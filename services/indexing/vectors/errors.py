"""Errors of the vector store.

VectorStoreUnavailable 503   the engine cannot respond now: transient, retry with backoff
`-- VectorStoreLocked        another process holds the shard's directory
SearchWindowExceeded 400     the page lies deeper than a ranking goes
FilterTooExpensive 422       the filter asks too much of a project with so many passages
InvalidPoint                 a chunk that can never be stored: permanent, the caller's fault
ScopeViolation               an engine returned a point of another tenant or project: nothing is returned
"""

from shared.errors import InvalidRequest, Unavailable


class VectorStoreUnavailable(Unavailable):
    """The engine is down, restarting, overloaded or failed. A write may have happened; writing again is safe.

    `reason` is for logs; clients see only the public sentence.
    """

    code = "vector_store_unavailable"
    detail = "Search is unavailable right now; try again shortly."

    def __init__(self, reason: str = "") -> None:
        super().__init__(retry_after=1)
        self.reason = reason
        if reason:
            self.add_note(reason)


class VectorStoreLocked(VectorStoreUnavailable):
    """Another process owns the shard, and does so until it ends."""


class SearchWindowExceeded(InvalidRequest):
    code = "search_window_exceeded"
    detail = "The page is beyond the last result that can be returned; narrow the query instead."


class FilterTooExpensive(InvalidRequest):
    status = 422
    code = "filter_too_expensive"
    detail = "The filter has too many conditions for a project of this size; use fewer, especially fewer ranges."


class InvalidPoint(ValueError):
    """A chunk whose vector or metadata no engine can hold."""


class ScopeViolation(RuntimeError):
    """A point outside the facade's tenant and project was returned. Always a defect; never shown to a client."""
