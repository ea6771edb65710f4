"""Streams are trimmed to what everybody has read, and no further."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.streams import entry_order, make_groups, trim

NOTHING = timedelta(0)


@pytest.fixture
def stream() -> str:
    return f"events.trimmed-{uuid.uuid4()}"


async def fill(redis: Redis, stream: str, count: int) -> list[str]:
    """Entries of long ago."""
    ids = [f"{number}-0" for number in range(1, count + 1)]
    for entry_id in ids:
        await redis.xadd(stream, {"event": entry_id}, id=entry_id)
    return ids


async def read(redis: Redis, stream: str, group: str, *, count: int, acknowledged: list[str]) -> None:
    await redis.xreadgroup(group, "reader", {stream: ">"}, count=count)
    await redis.xack(stream, group, *acknowledged)


async def kept(redis: Redis, stream: str) -> list[str]:
    entries: Any = await redis.xrange(stream)
    return [entry_id.decode() for entry_id, _ in entries]


async def test_groups_are_made_at_the_beginning_and_left_alone_afterwards(redis_client: Redis, stream: str) -> None:
    ids = await fill(redis_client, stream, 2)
    await make_groups(redis_client, stream, ["one"])
    await read(redis_client, stream, "one", count=1, acknowledged=ids[:1])
    await make_groups(redis_client, stream, ["one", "two"])
    groups: Any = await redis_client.xinfo_groups(stream)
    assert {group["name"]: group["last-delivered-id"] for group in groups} == {b"one": b"1-0", b"two": b"0-0"}


async def test_what_every_group_has_acknowledged_is_removed(redis_client: Redis, stream: str) -> None:
    ids = await fill(redis_client, stream, 5)
    await make_groups(redis_client, stream, ["one", "two"])
    await read(redis_client, stream, "one", count=5, acknowledged=ids)
    await read(redis_client, stream, "two", count=3, acknowledged=ids[:3])
    assert await trim(redis_client, stream, ["one", "two"], keep=NOTHING) == 2
    # The last one acknowledged stays as the mark.
    assert await kept(redis_client, stream) == ids[2:]


async def test_a_pending_entry_and_all_after_it_stay(redis_client: Redis, stream: str) -> None:
    ids = await fill(redis_client, stream, 5)
    await make_groups(redis_client, stream, ["one"])
    await read(redis_client, stream, "one", count=5, acknowledged=[ids[0], ids[2], ids[3], ids[4]])
    await trim(redis_client, stream, ["one"], keep=NOTHING)
    assert await kept(redis_client, stream) == ids[1:]


async def test_nothing_is_removed_while_a_reader_is_missing(redis_client: Redis, stream: str) -> None:
    ids = await fill(redis_client, stream, 3)
    await make_groups(redis_client, stream, ["one"])
    await read(redis_client, stream, "one", count=3, acknowledged=ids)
    assert await trim(redis_client, stream, ["one", "late"], keep=NOTHING) == 0
    assert await kept(redis_client, stream) == ids


async def test_a_group_that_nobody_expects_counts_too(redis_client: Redis, stream: str) -> None:
    ids = await fill(redis_client, stream, 3)
    await make_groups(redis_client, stream, ["one", "guest"])
    await read(redis_client, stream, "one", count=3, acknowledged=ids)
    assert await trim(redis_client, stream, ["one"], keep=NOTHING) == 0


async def test_young_entries_stay_for_those_who_read_without_a_group(redis_client: Redis, stream: str) -> None:
    ids = await fill(redis_client, stream, 2)
    added: Any = [await redis_client.xadd(stream, {"event": "young"}) for _ in range(2)]
    young = [entry_id.decode() for entry_id in added]
    await make_groups(redis_client, stream, ["one"])
    await read(redis_client, stream, "one", count=4, acknowledged=[*ids, *young])
    assert await trim(redis_client, stream, ["one"]) == 2
    assert await kept(redis_client, stream) == young


async def test_a_stream_that_is_not_there_or_that_nobody_reads_is_left_alone(redis_client: Redis, stream: str) -> None:
    assert await trim(redis_client, stream, ["one"], keep=NOTHING) == 0
    ids = await fill(redis_client, stream, 2)
    assert await trim(redis_client, stream, [], keep=NOTHING) == 0
    assert await kept(redis_client, stream) == ids


def test_ids_sort_by_number_and_not_as_text() -> None:
    assert sorted(["10-0", "9-0", "9-10", "9-9"], key=entry_order) == ["9-0", "9-9", "9-10", "10-0"]
    assert entry_order(b"1-2") == entry_order("1-2") == (1, 2)
