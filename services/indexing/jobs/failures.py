"""What an error during a job means: give up, retry, or wait for another service to recover.

Verdict.permanent   the same bytes fail again: failed at once, with a sentence for people
Verdict.counted     may be the document's fault: retried with growing delays, up to the limit of attempts
Verdict.outage      another service or a store does not respond: retried until it does; no attempt is used up
"""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from services.indexing.documents.errors import ContentMissing, ContentRefused
from services.indexing.embedders.errors import EmbedderRefused
from services.indexing.pipeline.errors import ExtractionError
from services.indexing.vectors.errors import InvalidPoint
from shared.errors import Unavailable
from shared.resilience import Backoff


class Verdict(StrEnum):
    PERMANENT = "permanent"
    COUNTED = "counted"
    OUTAGE = "outage"


@dataclass(frozen=True, slots=True)
class Failure:
    """`reason` is for people; `detail` is evidence for operators and the document's editors."""

    verdict: Verdict
    code: str
    reason: str
    detail: str


def judge(error: BaseException) -> Failure:
    """What `error` means; an unforeseen one counts as the document's, so that retries end."""
    if isinstance(error, ExtractionError):
        verdict = Verdict.PERMANENT if error.permanent else Verdict.COUNTED
        failure = Failure(verdict, error.code, error.message, error.detail)
    elif isinstance(error, ContentMissing):
        failure = Failure(Verdict.PERMANENT, error.code, error.message, "")
    elif isinstance(error, ContentRefused):
        reason = "The document's content cannot be fetched."
        failure = Failure(Verdict.COUNTED, "content_refused", reason, str(error))
    elif isinstance(error, EmbedderRefused):
        reason = "The document's text cannot be embedded."
        failure = Failure(Verdict.COUNTED, "embedding_refused", reason, error.reason)
    elif isinstance(error, InvalidPoint):
        reason = "The document's metadata or text cannot be stored for search."
        failure = Failure(Verdict.PERMANENT, "not_indexable", reason, str(error))
    elif isinstance(error, Unavailable):
        failure = Failure(Verdict.OUTAGE, error.code, error.public_detail, type(error).__name__)
    elif _is_outage(error):
        reason = "Indexing is waiting for a part of Quarry that is unavailable right now."
        failure = Failure(Verdict.OUTAGE, "unavailable", reason, type(error).__name__)
    else:
        reason = "Something went wrong while indexing the document."
        failure = Failure(Verdict.COUNTED, "internal_error", reason, type(error).__name__)
    return failure


def delay_of(failure: Failure, *, attempts: int, deferrals: int) -> float:
    """Seconds until the next try: up to a minute after the document's own errors, a quarter of a minute during outages,
    so that work goes on soon after they end."""
    if failure.verdict is Verdict.OUTAGE:
        backoff, backoff_attempts = Backoff(first=0.5, most=15.0), deferrals
    else:
        backoff, backoff_attempts = Backoff(first=1.0, most=60.0), attempts - 1
    backoff.attempts = max(0, backoff_attempts)
    return backoff.next()


def exhausted(attempts: int, last: Failure | None, stage: str | None) -> Failure:
    """The failure of a job that has used its attempts. Without a last error, it took its workers down with it."""
    if last is not None:
        reason = f"Indexing was tried {attempts} times without success. {last.reason}"
        return Failure(Verdict.PERMANENT, "too_many_attempts", reason, last.detail or last.code)
    reason = f"Indexing was tried {attempts} times and never finished."
    return Failure(Verdict.PERMANENT, "too_many_attempts", reason, f"interrupted while {stage or 'waiting'}")


def _is_outage(error: BaseException) -> bool:
    """Postgres is unreachable, restarting, short of a resource or chose us as a deadlock victim; or a disk is full."""
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", "") or "")
        return error.connection_invalidated or not state or state[:2] in {"08", "25", "40", "53", "55", "57", "58"}
    return isinstance(error, PoolTimeoutError | OSError)
