"""Which replica a request goes to, and whether, where and until when it is tried again. Nothing else decides that.

| what happened | tried again |
| --- | --- |
| no connection was made | any request: it cannot have had an effect |
| the connection broke | repeatable requests, sent at most `MOST_SENT` times |
| no response for `attempt_seconds`, and another replica works | the same; the last replica gets all the time left |
| 503 | repeatable requests, for `busy_seconds`; then the 503 is passed on |
| a malformed response, any other status | nothing |

Repeatable are requests without effect: safe methods without a body, and token exchanges.

Where: at a replica that this request has not tried yet or, after a pause, at any. If there is none, because none is
known or all are set aside, it waits for one. Until when: `retry_seconds` after the first failure, and never beyond the
request's own deadline. At most `most_waiting` requests wait at a time: a longer queue would take longer to work off
than its members wait. Pauses grow and have jitter.

Does not guarantee: that a request is sent once. One that kills every process that takes it kills at most `MOST_SENT`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import aiohttp

from services.gateway.errors import BadUpstreamResponse, UpstreamTimeout
from services.gateway.routes import Flow
from services.gateway.settings import GatewaySettings
from services.gateway.upstreams.replicas import Replica
from services.gateway.upstreams.upstream import Upstream
from shared.circuit_breaker import Call
from shared.errors import QuarryError, Unavailable
from shared.resilience import Backoff
from shared.telemetry import get_logger

MOST_SENT: Final = 3
# Probing a replica that refuses connections costs nothing, so it is done often.
MOST_PAUSE_OF_REFUSALS_SECONDS: Final = 1.0

_log = get_logger(__name__)


class Answer(Protocol):
    """The beginning of a response; `whole` is its body if that was read already."""

    @property
    def status(self) -> int: ...

    @property
    def whole(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class BufferedResponse:
    """A response with all of its body."""

    status: int
    whole: bytes


A = TypeVar("A", bound=Answer)
Attempt = Callable[[Replica], Awaitable[A]]


def _always() -> bool:
    return True


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What one request allows.

    Args:
        seconds: from now until its response must have begun. The caller cancels it then; no attempt is begun so late
            that its outcome could not be reported.
        unsent: whether nothing of its body has been read from the client yet.
        overdue: whether a cancelled attempt was cancelled because the service took too long.
    """

    flow: Flow
    repeatable: bool
    seconds: float
    unsent: Callable[[], bool] = _always
    overdue: Callable[[], bool] = _never


@asynccontextmanager
async def send_with_retries(
    upstream: Upstream, settings: GatewaySettings, policy: RetryPolicy, attempt: Attempt[A]
) -> AsyncIterator[A]:
    """The response of a replica, which counts as busy with it during the block.

    Args:
        attempt: sends the request to one replica. Leaves nothing open when it raises or is cancelled.

    Raises:
        Unavailable: no replica can be reached.
        UpstreamTimeout: none responded.
        BadUpstreamResponse: a response was malformed, or broke off.
    """
    attempts = _RetryLoop(upstream, settings, policy, attempt)
    replica, answer = await attempts.run()
    try:
        yield answer
    finally:
        replica.in_flight[policy.flow] -= 1


class _RetryLoop(Generic[A]):
    """One request on its way through the replicas of a service."""

    def __init__(self, upstream: Upstream, settings: GatewaySettings, policy: RetryPolicy, attempt: Attempt[A]) -> None:
        self._upstream = upstream
        self._settings = settings
        self._policy = policy
        self._attempt = attempt
        self._now = asyncio.get_running_loop().time
        self._deadline = self._now() + policy.seconds
        self._until: float | None = None
        self._sent = 0
        self._tried: set[Replica] = set()
        self._pauses = Backoff(first=0.1, most=0.5)
        self._error: Exception | None = None
        self._busy: tuple[Replica, A] | None = None
        self._busy_until = 0.0

    async def run(self) -> tuple[Replica, A]:
        """The replica and its response; the caller takes back the replica's count."""
        while (replica := await self._next()) is not None:
            began = self._now()
            try:
                answer = await self._send(replica)
            except (aiohttp.ClientError, OSError) as error:
                self._error = error
                if not self._may_repeat(error):
                    break
                continue
            if answer.status != 503 or answer.whole is None or not self._policy.repeatable:
                return self._end(replica, answer)
            self._keep_busy(replica, answer, began)
        if self._busy is not None:
            return self._end(*self._busy)
        raise _named(self._upstream.name, self._error) from self._error

    def _end(self, replica: Replica, answer: A) -> tuple[Replica, A]:
        replica.in_flight[self._policy.flow] += 1
        return replica, answer

    # --- whether -----------------------------------------------------------------------------------------------------

    def _may_repeat(self, error: Exception) -> bool:
        self._give(self._now() + self._settings.retry_seconds)
        if _never_connected(error):
            self._sent -= 1
            return self._policy.unsent()
        makes_no_sense = isinstance(error, aiohttp.ClientResponseError)
        return self._policy.repeatable and self._sent < MOST_SENT and not makes_no_sense

    def _keep_busy(self, replica: Replica, answer: A, began: float) -> None:
        """The service reports that it is unavailable: retry for a little while, then pass its response on."""
        if self._busy is None:
            self._busy_until = began + self._settings.busy_seconds
            self._pauses = Backoff(first=0.5, most=1.0)
        self._busy = replica, answer
        self._give(self._busy_until)

    # --- where, and until when ---------------------------------------------------------------------------------------

    async def _next(self) -> Replica | None:
        """The replica for the next attempt; None when it is time to give up."""
        replicas = self._upstream.replicas
        while True:
            await replicas.refresh(self._settings.attempt_seconds)
            replica = replicas.choose(self._policy.flow, tried=self._tried, repeatable=self._policy.repeatable)
            if replica is not None:
                self._tried.add(replica)
                return replica
            if not await self._paused():
                return None
            self._tried.clear()

    async def _paused(self) -> bool:
        """Wait a little; False when it is too late for that, or too many wait."""
        until = self._give(self._now() + self._settings.retry_seconds)
        pause = self._pauses.next()
        if self._now() + pause >= until or self._upstream.waiting >= self._settings.most_waiting:
            return False
        self._upstream.waiting += 1
        try:
            await asyncio.sleep(pause)
        finally:
            self._upstream.waiting -= 1
        return True

    def _give(self, until: float) -> float:
        """The end of all retries, set at the first failure; a later one can only bring it nearer."""
        self._until = min(until, self._deadline if self._until is None else self._until)
        return self._until

    # --- one attempt -------------------------------------------------------------------------------------------------

    async def _send(self, replica: Replica) -> A:
        self._sent += 1
        replica.in_flight[self._policy.flow] += 1
        try:
            with self._judged(replica) as call:
                async with asyncio.timeout(self._limit(replica)):
                    answer = await self._attempt(replica)
                call.succeeded()
                return answer
        finally:
            replica.in_flight[self._policy.flow] -= 1

    def _limit(self, replica: Replica) -> float | None:
        """Seconds for an attempt; None: as long as the request may take."""
        if self._busy is not None:
            return max(0.0, self._busy_until - self._now())
        others = self._policy.repeatable and self._upstream.replicas.others_than(replica, self._tried)
        return self._settings.attempt_seconds if others else None

    @contextmanager
    def _judged(self, replica: Replica) -> Iterator[Call]:
        """Tell the replica's breaker of failures that are the service's."""
        others = self._upstream.replicas.others_than(replica)
        with replica.breaker.call() as call:
            try:
                yield call
            except asyncio.CancelledError:
                if self._policy.overdue():
                    call.failed(at_once=others)
                raise
            except (aiohttp.ClientError, OSError) as error:
                if self._busy is not None and isinstance(error, TimeoutError):
                    raise  # was given less time than is fair
                refused = _never_connected(error)
                call.failed(at_once=others, most_pause=MOST_PAUSE_OF_REFUSALS_SECONDS if refused else None)
                if others:
                    reason = str(error)[:200] or type(error).__name__
                    _log.warning("replica_failed", upstream=self._upstream.name, replica=replica.url, reason=reason)
                raise


def _never_connected(error: Exception | None) -> bool:
    return isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))


def _named(service: str, error: Exception | None) -> QuarryError:
    """The error a client gets for a failure."""
    if isinstance(error, aiohttp.ClientResponseError):
        return BadUpstreamResponse()
    if isinstance(error, aiohttp.ClientPayloadError):
        return BadUpstreamResponse(f"The {service} service broke off its response.")
    if isinstance(error, TimeoutError) and not _never_connected(error):
        return UpstreamTimeout()
    return Unavailable(f"The {service} service cannot be reached.", retry_after=1)
