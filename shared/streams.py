"""A Redis stream itself: the order of its entries, its groups, and how much of it may be trimmed."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from shared.failpoints import failpoint

KEEP_ENTRIES: Final = timedelta(hours=1)

BEFORE_TRIM = failpoint("stream.before_trim", "known to be acknowledged by every group, still in the stream")

EntryOrder = tuple[int, int]


def entry_order(entry_id: str | bytes) -> EntryOrder:
    """A stream entry's id (`milliseconds-number`) as what it sorts by."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    milliseconds, _, number = text.partition("-")
    return int(milliseconds), int(number or 0)


async def make_groups(redis: Redis, stream: str, groups: Iterable[str]) -> None:
    """Make the groups that are missing, and the stream, so that they read it from its very beginning."""
    for group in groups:
        try:
            await redis.xgroup_create(stream, group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise


async def trim(redis: Redis, stream: str, groups: Iterable[str], *, keep: timedelta = KEEP_ENTRIES) -> int:
    """Remove what every group has acknowledged and is older than `keep`; returns the number of entries removed.

    Removes nothing while one of `groups` is missing: it will read from the beginning. `keep` is for readers without a
    group. Unexpected groups count too.
    """
    try:
        found: Any = await redis.xinfo_groups(stream)
    except ResponseError as error:
        if "no such key" in str(error):
            return 0
        raise
    read_by = {group["name"].decode(): group["last-delivered-id"] for group in found}
    if not read_by or not set(groups) <= set(read_by):
        return 0
    # In this order: what is delivered in between is pending, and so are all before it that were not acknowledged.
    bounds = [entry_order(last) for last in read_by.values()]
    for number, group in enumerate(read_by):
        pending: Any = await redis.xpending(stream, group)
        if pending["pending"]:
            bounds[number] = entry_order(pending["min"])
    seconds, _ = await redis.time()
    oldest_kept = int((seconds - keep.total_seconds()) * 1000), 0
    milliseconds, counter = min(*bounds, oldest_kept)
    await BEFORE_TRIM.reach()
    return int(await redis.xtrim(stream, minid=f"{max(milliseconds, 0)}-{counter}", approximate=False))
