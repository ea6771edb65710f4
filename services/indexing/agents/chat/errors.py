"""What calls of a chat model fail with.

ModelUnavailable 503   it cannot be reached, is overloaded or silent, or its response broke off: to be tried again
ModelRefused 502       it refuses the request itself, or redirects it: its settings are to be looked at
"""

from shared.errors import QuarryError, Unavailable


class ModelUnavailable(Unavailable):
    """`reason` is for logs: a word, or the status of the response. `spent`: the model may have read the request."""

    code = "model_unavailable"
    detail = "The model that writes answers is unavailable right now; try again shortly."

    def __init__(self, reason: str, *, spent: bool = True, retry_after: float | None = None) -> None:
        super().__init__(retry_after=retry_after)
        self.reason = reason
        self.spent = spent


class ModelRefused(QuarryError):
    """`reason`: the status of the response."""

    status = 502
    code = "model_refused"
    detail = "The model that writes answers does not accept this request."

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason
