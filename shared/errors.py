"""Errors a client may see, and nothing else: each has a status, a stable `code` and a public sentence.

    QuarryError
    |-- InvalidRequest 400 / 422      the request itself is wrong
    |-- Unauthenticated 401           no credential, or one that no longer counts
    |-- Forbidden 403                 known, but without the role or scope
    |   `-- QuotaExceeded             allowed, but the tenant or user has used up its share; with `quota limit used`
    |-- NotFound 404                  missing, or another tenant's: the same response
    |-- Conflict 409                  the state of the thing does not allow it
    |-- PreconditionFailed 412        If-Match is stale
    |-- TooLarge 413                  a body or an item over its limit
    |-- UnsupportedMediaType 415      a body of a type, or in a coding, that is not accepted
    |-- PreconditionRequired 428      If-Match is missing
    |-- RateLimited 429               with Retry-After
    `-- Unavailable 503               another service or a store is unavailable; with Retry-After

A domain derives its own from these in its `errors.py`. `shared.problems` renders them as RFC 9457 problem documents.
"""

from typing import Any, ClassVar


class QuarryError(Exception):
    """Base of every error that reaches a client. `detail` is public: no identifiers of other tenants, no internals.
    `errors` says which parts of the request are wrong, `members` are extension members of the problem document (RFC
    9457, section 3.2), all just as public; `headers` are sent with the response."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    detail: ClassVar[str] = "Something went wrong on our side."

    def __init__(self, detail: str | None = None, *, retry_after: float | None = None) -> None:
        self.public_detail = detail or self.detail
        self.members: dict[str, str | int] = {}
        self.headers: dict[str, str] = {}
        self.errors: list[dict[str, Any]] = []
        self.retry_after = retry_after
        super().__init__(self.public_detail)


class InvalidRequest(QuarryError):
    status = 400
    code = "invalid_request"
    detail = "The request is not valid."


class Unauthenticated(QuarryError):
    status = 401
    code = "unauthenticated"
    detail = "A valid credential is required."


class Forbidden(QuarryError):
    status = 403
    code = "forbidden"
    detail = "Your role or scopes do not allow this."


class QuotaExceeded(Forbidden):
    """A share is used up. The problem document says which (`quota`), how large it is (`limit`) and how much of it was
    taken before this request (`used`)."""

    code = "quota_exceeded"

    def __init__(self, quota: str, *, limit: int, used: int, detail: str | None = None) -> None:
        super().__init__(detail or f"The quota {quota} is {limit}, and {used} of it is already used.")
        self.members = {"quota": quota, "limit": limit, "used": used}


class NotFound(QuarryError):
    status = 404
    code = "not_found"
    detail = "The resource does not exist, or you have no access to it."


class Conflict(QuarryError):
    status = 409
    code = "conflict"
    detail = "The current state does not allow this."


class PreconditionFailed(QuarryError):
    status = 412
    code = "precondition_failed"
    detail = "The resource has changed since you read it."


class TooLarge(QuarryError):
    status = 413
    code = "too_large"
    detail = "The content is larger than allowed."


class UnsupportedMediaType(QuarryError):
    status = 415
    code = "unsupported_media_type"
    detail = "The media type of the body is not supported here."


class PreconditionRequired(QuarryError):
    status = 428
    code = "precondition_required"
    detail = "Send the ETag of the resource in the If-Match header."


class RateLimited(QuarryError):
    status = 429
    code = "rate_limited"
    detail = "Too many requests; slow down."


class Unavailable(QuarryError):
    status = 503
    code = "unavailable"
    detail = "This part of Quarry is unavailable right now; try again shortly."
