"""Rate limits, counted in Redis for all gateways together (GCRA, ITU-T I.371) and spent locally.

A limit of `quota` requests per `window` seconds lets at most `quota` through at once and refills evenly. The state of
one key is one number, its theoretical arrival time, moved by a Lua script under Redis's own clock.

A process takes permits from Redis ahead of use, one when there is little traffic, up to a twentieth of the quota when
there is much, so that most requests cost no round trip. Permits are counted before they are spent: all gateways
together never let more than the limit through; unused ones lapse after `BATCH_SECONDS`, at the client's cost. A refusal
is remembered until the time it names.

Fails by: counting in this process alone while Redis does not respond, or refusing, for a limit with `fails_closed`.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.circuit_breaker import Breaker
from shared.errors import Unavailable
from shared.telemetry import get_logger

BATCH_SECONDS: Final = 0.5
TIMEOUT_SECONDS: Final = 0.5
MOST_KEYS: Final = 20_000
_MICROSECONDS: Final = 1_000_000

# KEYS[1]; ARGV: microseconds per request, microseconds of burst, permits wanted. Returns permits given, permits left,
# microseconds until one is free, microseconds until all are.
_GCRA: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local free = math.floor((burst - (arrival - now)) / interval)
local given = math.min(wanted, free)
if given < 1 then
  return {0, 0, math.ceil(arrival - now + interval - burst), math.ceil(arrival - now)}
end
arrival = arrival + given * interval
redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000) + 1)
return {given, free - given, 0, math.ceil(arrival - now)}
"""

_log = get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limit:
    """`quota` requests per `window` seconds. `name` is shown to clients."""

    name: str
    quota: int
    window: int = 60
    fails_closed: bool = False

    @property
    def interval(self) -> float:
        """Seconds per request."""
        return self.window / self.quota

    @property
    def most_ahead(self) -> int:
        return max(1, self.quota // 20)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`retry_after` and `reset` are seconds: until one request is free, and until all are."""

    limit: Limit
    allowed: bool
    remaining: int
    reset: float
    retry_after: float = 0.0


@dataclass(slots=True)
class _PermitBatch:
    """Permits taken from Redis and not spent yet."""

    given: int
    permits: int
    until: float
    left: int
    reset: float


@dataclass(frozen=True, slots=True)
class _Refusal:
    until: float
    full_at: float


@dataclass(slots=True)
class _Queue:
    """The requests that wait for permits of one key."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class RateLimiter:
    """Counts requests by key. Made in the lifespan."""

    def __init__(self, redis: Redis, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._script = redis.register_script(_GCRA)
        self._breaker = Breaker("rate limit", threshold=1, first_pause=0.5, most_pause=2.0, clock=clock)
        self._batches: OrderedDict[str, _PermitBatch] = OrderedDict()
        self._queues: dict[str, _Queue] = {}
        self._refusals: OrderedDict[str, _Refusal] = OrderedDict()
        self._arrivals: OrderedDict[str, float] = OrderedDict()

    def refusal(self, limit: Limit, subject: str) -> Verdict | None:
        """The standing refusal of a subject, without counting anything."""
        return self._standing(limit, _key(limit, subject))

    async def take(self, limit: Limit, subject: str) -> Verdict:
        """Count one request of `subject`.

        Raises:
            Unavailable: Redis does not respond and the limit fails closed.
        """
        key = _key(limit, subject)
        if (standing := self._standing(limit, key)) is not None:
            return standing
        batch = self._spendable(key)
        if batch is None:
            try:
                batch = await self._ask(limit, key)
            except Unavailable:
                if limit.fails_closed:
                    raise
                return self._take_locally(limit, key)
        if batch is None:
            return self._standing(limit, key) or Verdict(limit, False, 0, 0.0)
        batch.permits -= 1
        return Verdict(limit, True, batch.left + batch.permits, batch.reset)

    def _spendable(self, key: str) -> _PermitBatch | None:
        batch = self._batches.get(key)
        return batch if batch is not None and batch.permits > 0 and self._clock() < batch.until else None

    async def _ask(self, limit: Limit, key: str) -> _PermitBatch | None:
        """A batch to spend from; None, and a standing refusal, when there is none. One request asks for all."""
        queue = self._queues.setdefault(key, _Queue())
        queue.waiting += 1
        try:
            async with queue.lock:
                if (batch := self._spendable(key)) is not None or self._standing(limit, key) is not None:
                    return batch
                return await self._fill(limit, key, self._wanted(limit, key, queue.waiting))
        finally:
            queue.waiting -= 1
            if not queue.waiting:
                del self._queues[key]

    def _wanted(self, limit: Limit, key: str, waiting: int) -> int:
        """How many permits to take: for the requests that wait, and for as many as will come while they last.

        Twice as many as last time if those were spent in time, else as many as were spent; one after a long silence.
        """
        last = self._batches.get(key)
        now = self._clock()
        if last is None or now > last.until + BATCH_SECONDS:
            expected = 1
        elif now < last.until:
            expected = last.given * 2
        else:
            expected = last.given - last.permits
        return max(1, min(limit.most_ahead, max(expected, waiting)))

    async def _fill(self, limit: Limit, key: str, wanted: int) -> _PermitBatch | None:
        with self._breaker.call() as call:
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    given, left, wait, reset = await self._script(
                        keys=[key], args=[limit.interval * _MICROSECONDS, limit.window * _MICROSECONDS, wanted]
                    )
            except (RedisError, OSError) as error:
                call.failed()
                _log.warning("limits_counted_locally", reason=str(error)[:200] or type(error).__name__)
                raise Unavailable(retry_after=2) from error
            call.succeeded()
        now = self._clock()
        if given < 1:
            _remember(self._refusals, key, _Refusal(now + wait / _MICROSECONDS, now + reset / _MICROSECONDS))
            return None
        batch = _PermitBatch(given, given, now + BATCH_SECONDS, left, reset / _MICROSECONDS)
        _remember(self._batches, key, batch)
        return batch

    def _standing(self, limit: Limit, key: str) -> Verdict | None:
        refusal = self._refusals.get(key)
        if refusal is None:
            return None
        now = self._clock()
        if now >= refusal.until:
            del self._refusals[key]
            return None
        return Verdict(limit, False, 0, refusal.full_at - now, refusal.until - now)

    def _take_locally(self, limit: Limit, key: str) -> Verdict:
        now = self._clock()
        arrival = max(self._arrivals.get(key, now), now)
        free = math.floor((limit.window - (arrival - now)) / limit.interval + 1e-9)
        if free < 1:
            return Verdict(limit, False, 0, arrival - now, arrival - now + limit.interval - limit.window)
        arrival += limit.interval
        _remember(self._arrivals, key, arrival)
        return Verdict(limit, True, free - 1, arrival - now)


def _key(limit: Limit, subject: str) -> str:
    return f"gateway:limit:{limit.name}:{subject}"


def _remember(entries: "OrderedDict[str, T]", key: str, value: T) -> None:
    entries[key] = value
    entries.move_to_end(key)
    while len(entries) > MOST_KEYS:
        entries.popitem(last=False)


def headers_for(verdicts: list[Verdict]) -> list[tuple[bytes, bytes]]:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers): requests left, seconds until reset."""
    policies = ", ".join(f'"{item.limit.name}";q={item.limit.quota};w={item.limit.window}' for item in verdicts)
    states = ", ".join(f'"{item.limit.name}";r={item.remaining};t={math.ceil(item.reset)}' for item in verdicts)
    return [(b"ratelimit-policy", policies.encode()), (b"ratelimit", states.encode())]
