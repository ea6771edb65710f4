"""Reading durable streams in a consumer group. The only module that knows FastStream.

`Consumer` has one FastStream subscriber per stream and its claiming twin, in the group named like the service.
`shared.stream_tail` reads without a group.

Guarantees: an entry is acknowledged only after `shared.delivery` has committed its effect or its dead
letter. What a dead process of this host left behind is finished before anything new is read, so a restart keeps the
order; other entries left behind are claimed after `idle_ms`. Redis counts the deliveries: an entry that kills every
process that takes it becomes a dead letter too; entries delivered before are taken one at a time, so it takes no others
with it. A group that Redis lost is recreated at the beginning of its stream.
Does not guarantee: order, or delivery once.
Fails by: waiting. While Redis returns errors the readers back off with jitter, and log the first pause and few more.

FastStream ends a subscriber on NOGROUP, spins on error replies and makes groups at `$`. `_StreamClient`, the Redis
client its subscribers read with, takes those three cases away before FastStream sees them.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Iterator, Sequence
from functools import partial
from typing import Any

from faststream import AckPolicy
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.configs.state import RedisConnectionState
from faststream.redis.message import FAKE_CONSUMER, BatchStreamMessage, RedisBatchStreamMessage
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import RedisError, ResponseError

from shared.background import run_in_background
from shared.dead_letters import MAX_DELIVERIES
from shared.delivery import Delivery, Dispatcher
from shared.events.envelope import producer_of
from shared.failpoints import failpoint
from shared.handlers import AnyHandler
from shared.metrics import Metrics
from shared.redis_clients import BLOCK_MS, NO_NOTICES, reader_client, stream_of
from shared.resilience import Backoff
from shared.streams import entry_order
from shared.telemetry import get_logger
from shared.tenancy import Database

MAX_RECORDS = 128
IDLE_MS = 5_000
RECOVERY_SECONDS = 5.0
_CLAIMS = "-claims"

BEFORE_ACK = failpoint("consumer.before_ack", "effects committed, entries not acknowledged")
AFTER_ACK = failpoint("consumer.after_ack", "effects committed, entries acknowledged")

Entries = list[tuple[str, bytes]]
_log = get_logger(__name__)


class Consumer:
    """All subscriptions of one service. Reads from `start()` to `stop()`."""

    def __init__(
        self,
        service: str,
        redis_url: str,
        database: Database,
        handlers: Sequence[AnyHandler],
        *,
        idle_ms: int = IDLE_MS,
        metrics: Metrics | None = None,
    ) -> None:
        """
        Args:
            idle_ms: an entry that its process has not confirmed for this many milliseconds is claimed by another. A
                process confirms the entries it works on three times as often.
        """
        self._group = service
        self._idle_ms = idle_ms
        self._dispatcher = Dispatcher(database, handlers, metrics)
        self._redis = reader_client(redis_url)
        self._broker = _Broker(redis_url, logger=logging.getLogger("faststream"), apply_types=False)
        self.streams = sorted({stream_of(producer_of(event_type)) for event_type in self._dispatcher.event_types})
        self._subscribers = [subscriber for stream in self.streams for subscriber in self._subscribe(stream)]

    def _subscribe(self, stream: str) -> list[Any]:
        consumer = _own_name()
        reading = StreamSub(
            stream,
            group=self._group,
            consumer=consumer,
            batch=True,
            max_records=MAX_RECORDS,
            polling_interval=BLOCK_MS,
        )
        claiming = StreamSub(
            stream,
            group=self._group,
            consumer=f"{consumer}{_CLAIMS}",
            batch=True,
            max_records=MAX_RECORDS,
            polling_interval=min(1000, self._idle_ms),
            min_idle_time=self._idle_ms,
        )
        subscribers = []
        for subscription, receive in ((reading, self._receive_new), (claiming, self._receive_claimed)):
            # Acknowledged by hand, entry by entry: some of a batch may fail.
            subscriber = self._broker.subscriber(
                stream=subscription, ack_policy=AckPolicy.MANUAL, parser=self._parse, decoder=_decode
            )
            subscriber(receive)
            subscribers.append(subscriber)
        return subscribers

    async def start(self) -> None:
        """Finish what dead processes of this host left behind, then read."""
        try:
            async with asyncio.timeout(RECOVERY_SECONDS):
                for stream in self.streams:
                    await self._recover(stream)
        except (RedisError, OSError) as error:
            # The claiming twin takes those entries, a little later.
            _log.warning("recovery_postponed", reason=str(error)[:200] or type(error).__name__)
        await self._broker.start()

    async def _recover(self, stream: str) -> None:
        try:
            consumers: Any = await self._redis.xinfo_consumers(stream, self._group)
        except ResponseError:
            # No stream or no group yet: nothing is pending.
            return
        orphans = [item for item in consumers if item["pending"] and _is_of_dead_process(item["name"].decode())]
        left: Any = [
            entry
            for orphan in orphans
            for entry in await self._redis.xpending_range(
                stream, self._group, min="-", max="+", count=orphan["pending"], consumername=orphan["name"]
            )
        ]
        if not left:
            return
        _log.info("recovering", stream=stream, entries=len(left))
        for part in _carefully(left):
            claimed: Any = await self._redis.xclaim(stream, self._group, _own_name(), 0, list(part))
            received = [
                (entry_id.decode(), fields.get(b"event", b""), part[entry_id] + 1) for entry_id, fields in claimed
            ]
            await self._receive(stream, received)

    async def stop(self) -> None:
        await self._broker.stop()
        await self._redis.aclose()

    async def check(self) -> None:
        """Readiness: every reader runs and no entry has waited much longer than its claims take.

        Raises:
            RuntimeError: says which stream is stuck.
        """
        for subscriber in self._subscribers:
            if not subscriber.running:
                raise RuntimeError("a stream reader has stopped")
        for stream in self.streams:
            idle = self._idle_ms * (MAX_DELIVERIES + 2)
            if await self._redis.xpending_range(stream, self._group, min="-", max="+", count=1, idle=idle):
                raise RuntimeError(f"{stream} has an entry that nobody finishes")

    async def _receive_new(self, batch: tuple[str, Entries]) -> None:
        stream, entries = batch
        await self._receive(stream, [(entry_id, raw, 1) for entry_id, raw in entries])

    async def _receive_claimed(self, batch: tuple[str, Entries]) -> None:
        stream, entries = batch
        counted = [(entry_id, raw, await self._delivery_count(stream, entry_id)) for entry_id, raw in entries]
        await self._receive(stream, counted)

    async def _receive(self, stream: str, entries: Sequence[tuple[str, bytes, int]]) -> None:
        async with run_in_background(
            partial(self._hold, stream, [entry_id for entry_id, _, _ in entries]), name="hold"
        ):
            outcome = await self._dispatcher.deliver(
                [Delivery(stream, self._group, entry_id, raw, count) for entry_id, raw, count in entries]
            )
        try:
            if done := [delivery.entry_id for delivery in outcome.done]:
                await BEFORE_ACK.reach()
                await self._redis.xack(stream, self._group, *done)
                await AFTER_ACK.reach()
            for delivery in outcome.not_counted:
                await self._redis.xclaim(
                    stream, self._group, _own_name(), 0, [delivery.entry_id],
                    retrycount=delivery.count - 1, justid=True,
                )  # fmt: skip
        except (RedisError, OSError) as error:
            # Unacknowledged entries are claimed later and dropped by the inbox.
            _log.warning("ack_failed", stream=stream, entries=len(entries), reason=str(error)[:200])

    async def _hold(self, stream: str, entry_ids: list[Any]) -> None:
        """Confirm now and then that entries are being worked on: otherwise a slow batch would look abandoned, and each
        claim of it would count as a failed delivery."""
        while True:
            await asyncio.sleep(self._idle_ms / 3000)
            try:
                await self._redis.xclaim(stream, self._group, _own_name(), 0, entry_ids, justid=True)
            except (RedisError, OSError) as error:
                _log.debug("entries_not_held", stream=stream, reason=str(error)[:200])

    async def _delivery_count(self, stream: str, entry_id: str) -> int:
        try:
            pending = await self._redis.xpending_range(stream, self._group, min=entry_id, max=entry_id, count=1)
        except RedisError as error:
            _log.warning("delivery_count_unknown", stream=stream, entry_id=entry_id, reason=str(error)[:200])
            return 1
        return int(pending[0]["times_delivered"]) if pending else 1

    async def _parse(self, raw: BatchStreamMessage) -> RedisBatchStreamMessage:
        message_id = raw["message_ids"][0].decode()
        return RedisBatchStreamMessage(
            raw_message=raw, body=b"", message_id=message_id, group=self._group, consumer=FAKE_CONSUMER
        )


def _carefully(pending: list[Any]) -> Iterator[dict[bytes, int]]:
    """Entries left behind, as ids and deliveries so far, in the order of the stream, in parts to be taken one by one.

    Entries delivered once come together; one delivered more often may be what kills processes, and comes alone.
    """
    together: dict[bytes, int] = {}
    for entry in sorted(pending, key=lambda entry: entry_order(entry["message_id"])):
        if entry["times_delivered"] == 1:
            together[entry["message_id"]] = 1
            continue
        if together:
            yield together
            together = {}
        yield {entry["message_id"]: entry["times_delivered"]}
    if together:
        yield together


def _own_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


def _is_of_dead_process(consumer: str) -> bool:
    """Whether the consumer's process ran on this host and is gone. If its process id is ours now, it is gone too."""
    host, _, number = consumer.removesuffix(_CLAIMS).rpartition("-")
    if host != socket.gethostname() or not number.isdecimal():
        return False
    if int(number) == os.getpid():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


async def _decode(message: RedisBatchStreamMessage) -> tuple[str, Entries]:
    raw = message.raw_message
    entries = [
        (entry_id.decode(), fields.get(b"event", b""))
        for entry_id, fields in zip(raw["message_ids"], raw["data"], strict=True)
    ]
    return raw["channel"], entries


class _Broker(RedisBroker):
    """FastStream's broker on that client."""

    def _make_connection_state(
        self, connection_options: dict[str, Any], kwargs: dict[str, Any]
    ) -> RedisConnectionState:
        return _ConnectionState(connection_options)


class _ConnectionState(RedisConnectionState):
    async def connect(self) -> Redis:
        options = {**self._options, "socket_timeout": BLOCK_MS / 1000 + 3, "socket_connect_timeout": 2.0}
        client = _StreamClient.from_pool(ConnectionPool(**options, maint_notifications_config=NO_NOTICES))
        self._client = client
        self._connected = True
        return client


class _StreamClient(Redis):
    """Reads that never raise: an error becomes a pause and an empty result, a lost group is recreated at 0."""

    _backoffs: dict[str, Backoff]

    async def ping(self, **kwargs: Any) -> bool:
        # FastStream pings before it reads and restarts at once when that fails; the reads below wait instead.
        return True

    async def xgroup_create(
        self, name: Any, groupname: Any, id: Any = "0", mkstream: bool = True, entries_read: int | None = None
    ) -> bool:
        try:
            await super().xgroup_create(name, groupname, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                await self._pause(name, error)
        except (RedisError, OSError) as error:
            await self._pause(name, error)
        return True

    async def xreadgroup(  # type: ignore[override]  # a coroutine, as FastStream awaits it
        self, groupname: str, consumername: str, streams: Any, **kwargs: Any
    ) -> Any:
        (stream,) = streams
        # Always new entries: FastStream would otherwise read its own pending list for ever after a restart.
        read = super().xreadgroup(groupname, consumername, {stream: ">"}, **kwargs)
        return await self._patiently(stream, groupname, read, empty=())

    async def xautoclaim(  # type: ignore[override]  # a coroutine, as FastStream awaits it
        self, name: Any, groupname: Any, consumername: Any, min_idle_time: Any, **kwargs: Any
    ) -> Any:
        read = super().xautoclaim(name, groupname, consumername, min_idle_time, **kwargs)
        return await self._patiently(name, groupname, read, empty=(b"0-0", ()))

    async def _patiently(self, stream: str, group: str, read: Awaitable[Any], *, empty: Any) -> Any:
        try:
            answer = await read
        except ResponseError as error:
            if "NOGROUP" in str(error):
                _log.warning("group_made_again", stream=stream, group=group)
                await self.xgroup_create(stream, group)
            else:
                await self._pause(stream, error)
            return empty
        except (RedisError, OSError) as error:
            await self._pause(stream, error)
            return empty
        self._backoff(stream).reset()
        return answer

    async def _pause(self, stream: str, error: Exception) -> None:
        backoff = self._backoff(stream)
        delay = backoff.next()
        if backoff.worth_telling:
            _log.warning("redis_unavailable", stream=stream, reason=str(error)[:200], retry_in=round(delay, 2))
        await asyncio.sleep(delay)

    def _backoff(self, stream: str) -> Backoff:
        if not hasattr(self, "_backoffs"):
            self._backoffs = {}
        return self._backoffs.setdefault(stream, Backoff(first=0.1, most=2.0))
