"""Reading a stream without a group: every process sees every entry from now on.

Guarantees: the reader is told when entries may have been missed. Does not guarantee: that none were.
Fails by: waiting, with backoff; `on_gap` says so.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.redis_clients import BLOCK_MS
from shared.resilience import Backoff
from shared.streams import entry_order
from shared.telemetry import get_logger

_log = get_logger(__name__)


async def follow(
    redis: Redis,
    stream: str,
    on_entry: Callable[[bytes, dict[bytes, bytes]], None],
    on_gap: Callable[[], None],
    on_read: Callable[[], None] = lambda: None,
    *,
    block_ms: int = BLOCK_MS,
) -> None:
    """Read `stream` without a group until cancelled: from its present end, and on from the last entry seen.

    Args:
        redis: a `reader_client`, or a client whose reads may take longer than `block_ms`.
        on_entry: called with each entry's id and fields; must not block.
        on_gap: called when entries may have been missed: reading was interrupted, or Redis was restarted.
        on_read: called after every successful read, also an empty one: all entries until now were passed on.
        block_ms: how long a read waits for entries.
    """
    backoff = Backoff(first=0.1, most=2.0)
    last_id: bytes | None = None
    while True:
        try:
            if last_id is None:
                last_id = await _newest_id(redis, stream)
            answer: Any = await redis.xread({stream: last_id}, count=1000, block=block_ms)
            for entry_id, fields in _entries_of(answer):
                on_entry(entry_id, fields)
                last_id = entry_id
            if backoff.attempts:
                on_gap()
                # A restarted Redis may be empty and its ids may lie behind ours.
                last_id = min(last_id, await _newest_id(redis, stream), key=entry_order)
            backoff.reset()
            on_read()
        except (RedisError, OSError) as error:
            on_gap()
            delay = backoff.next()
            if backoff.worth_telling:
                _log.warning("redis_unavailable", stream=stream, reason=str(error)[:200], retry_in=round(delay, 2))
            await asyncio.sleep(delay)


def _entries_of(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of an XREAD of one stream; redis-py returns a list, a dict or nothing, by protocol version."""
    if not answer:
        return []
    streams = answer.values() if isinstance(answer, dict) else (entries for _, entries in answer)
    batches = [entries[0] if isinstance(answer, dict) else entries for entries in streams]
    return [entry for batch in batches for entry in batch]


async def _newest_id(redis: Redis, stream: str) -> bytes:
    newest: Any = await redis.xrevrange(stream, count=1)
    return bytes(newest[0][0]) if newest else b"0-0"
