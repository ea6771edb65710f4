"""What only Postgres and Redis know about a service, read when `/metrics` is scraped: about its events, which every
service has, and about whatever else a service provides as a `Source`.

Guarantees: a scrape reads all sources at once, waits at most `READ_SECONDS` for each, and never fails because of them:
what could not be read is missing from the response and `quarry_source_up` says so. However often `/metrics` is scraped,
each source is read once in `FRESH_SECONDS`.
Does not guarantee: that values of two sources belong to the same moment. Every process of a service reports the same
ones: rules take the maximum over a service.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.dead_letters import DeadLetter
from shared.metrics import Readings
from shared.outbox import OutboxEvent
from shared.redis_clients import stream_of
from shared.telemetry import get_logger

READ_SECONDS: Final = 2.0
FRESH_SECONDS: Final = 3.0
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sample:
    """One value; `labels` besides the service."""

    metric: str
    value: float
    labels: tuple[str, ...] = ()


Families = Mapping[str, tuple[str, tuple[str, ...]]]
"""Metrics by name: a sentence on each, and its labels besides the service."""

_FAMILIES: Final[Families] = {
    "quarry_dead_letters_open": ("Dead letters not redriven yet.", ("handler",)),
    "quarry_outbox_unpublished": ("Committed events not published yet.", ()),
    "quarry_outbox_oldest_seconds": ("Age of the oldest unpublished event, 0 if there is none.", ()),
    "quarry_stream_entries": ("Entries in a stream.", ("stream",)),
    "quarry_stream_unread": ("Entries not delivered to the service's group yet.", ("stream",)),
    "quarry_stream_pending": ("Entries delivered to the service's group, not acknowledged yet.", ("stream",)),
    "quarry_stream_pending_oldest_seconds": ("Age of the oldest pending entry, 0 if there is none.", ("stream",)),
    "quarry_source_up": ("1 if the last reading for metrics succeeded.", ("source",)),
}


@dataclass(frozen=True, slots=True)
class Source:
    """Something to read: its name in `quarry_source_up`, the metrics it gives, and how to read it. `read` may raise
    what an unresponsive database or Redis raises, and nothing else."""

    name: str
    families: Families
    read: Callable[[], Awaitable[Sequence[Sample]]]


@dataclass(slots=True)
class _Reading:
    """A source, and what was read of it last."""

    source: Source
    samples: Sequence[Sample] = ()
    up: bool = False
    next_read: float = 0.0
    task: "asyncio.Task[None] | None" = field(default=None, repr=False)


class Gauges(Readings):
    """The readings of one service; `close()` at the end."""

    def __init__(
        self, service: str, system: AsyncEngine, redis: Redis, *, reads: Sequence[str], more: Sequence[Source] = ()
    ) -> None:
        """
        Args:
            system: engine of the system role.
            reads: the streams that the service has a group on.
            more: the service's own sources.
        """
        self._service = service
        self._system = system
        self._redis = redis
        self._reads = tuple(reads)
        events = (Source("postgres", _FAMILIES, self._read_postgres), Source("redis", _FAMILIES, self._read_redis))
        self._readings = tuple(_Reading(source) for source in (*events, *more))

    async def refresh(self) -> None:
        """Read what is not fresh any more; returns within `READ_SECONDS`, whatever happens."""
        now = asyncio.get_running_loop().time()
        for reading in self._readings:
            if reading.task is None and now >= reading.next_read:
                reading.task = asyncio.create_task(self._read(reading), name=f"metrics from {reading.source.name}")
        running = [reading.task for reading in self._readings if reading.task is not None]
        if running:
            await asyncio.wait(running, timeout=READ_SECONDS)
        for reading in self._readings:
            if reading.task is not None and not reading.task.done():
                reading.task.cancel()
                reading.samples, reading.up = (), False

    async def close(self) -> None:
        running = [reading.task for reading in self._readings if reading.task is not None]
        while pending := [task for task in running if not task.done()]:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending, timeout=0.5)

    def collect(self) -> Iterable[Metric]:
        families = {
            name: GaugeMetricFamily(name, documentation, labels=["service", *labels])
            for reading in self._readings
            for name, (documentation, labels) in reading.source.families.items()
        }
        for reading in self._readings:
            for sample in reading.samples:
                families[sample.metric].add_metric([self._service, *sample.labels], sample.value)
            families["quarry_source_up"].add_metric([self._service, reading.source.name], float(reading.up))
        return families.values()

    async def _read(self, reading: _Reading) -> None:
        loop = asyncio.get_running_loop()
        try:
            reading.samples = await reading.source.read()
            reading.up = True
        except (SQLAlchemyError, RedisError, OSError) as error:
            _log.warning("metrics_unknown", source=reading.source.name, reason=type(error).__name__)
            reading.samples, reading.up = (), False
        finally:
            reading.next_read = loop.time() + FRESH_SECONDS
            reading.task = None

    async def _read_postgres(self) -> Sequence[Sample]:
        open_letters = (
            select(DeadLetter.handler, func.count())
            .where(DeadLetter.redriven_at.is_(None))
            .group_by(DeadLetter.handler)
        )
        waiting = select(func.count()).select_from(OutboxEvent).where(OutboxEvent.published_at.is_(None))
        oldest = (
            select(func.extract("epoch", func.now() - OutboxEvent.time))
            .where(OutboxEvent.published_at.is_(None))
            .order_by(OutboxEvent.position)
            .limit(1)
        )
        async with self._system.connect() as connection:
            samples = [
                Sample("quarry_dead_letters_open", float(number), (handler,))
                for handler, number in await connection.execute(open_letters)
            ]
            samples.append(Sample("quarry_outbox_unpublished", float(await connection.scalar(waiting) or 0)))
            age = float(await connection.scalar(oldest) or 0)
            samples.append(Sample("quarry_outbox_oldest_seconds", max(0.0, age)))
        return samples

    async def _read_redis(self) -> Sequence[Sample]:
        own = stream_of(self._service)
        streams = sorted({own, *self._reads})
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for stream in streams:
                pipeline.xinfo_stream(stream)
            for stream in self._reads:
                pipeline.xpending(stream, self._service)
                pipeline.xinfo_groups(stream)
            now, *answers = await pipeline.execute(raise_on_error=False)
        for answer in (now, *answers):
            # Redis returns an error for a stream or group that is not there yet; any other error is an outage.
            if isinstance(answer, RedisError) and not _is_missing(answer):
                raise answer
        samples = [
            Sample("quarry_stream_entries", 0.0 if isinstance(about, RedisError) else float(about["length"]), (stream,))
            for stream, about in zip(streams, answers, strict=False)
        ]
        rest = iter(answers[len(streams) :])
        for stream in self._reads:
            samples += self._of_group(stream, now, next(rest), next(rest))
        return samples

    def _of_group(self, stream: str, now: tuple[int, int], pending: Any, groups: Any) -> list[Sample]:
        """Samples of one stream; none when it has no group yet."""
        if isinstance(pending, RedisError) or isinstance(groups, RedisError):
            return []
        oldest = pending["min"]
        # The first half of an entry's id is when Redis took it, in milliseconds by its own clock.
        age = 0.0 if oldest is None else now[0] + now[1] / 1e6 - int(oldest.partition(b"-")[0]) / 1000
        # Redis does not know the lag after entries in the middle of a stream were deleted.
        lags = [
            float(group["lag"])
            for group in groups
            if group["name"] == self._service.encode() and group["lag"] is not None
        ]
        return [
            Sample("quarry_stream_pending", float(pending["pending"]), (stream,)),
            Sample("quarry_stream_pending_oldest_seconds", max(0.0, age), (stream,)),
            *(Sample("quarry_stream_unread", lag, (stream,)) for lag in lags),
        ]


def _is_missing(error: RedisError) -> bool:
    return "no such key" in str(error) or "NOGROUP" in str(error)
