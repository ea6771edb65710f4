"""Reading without a group."""

import asyncio
import uuid
from functools import partial

from redis.asyncio import Redis

from infra.local.stack import Stack
from shared.background import run_in_background
from shared.redis_clients import reader_client
from shared.stream_tail import follow
from tests.shared.backbone import value_of
from tests.support.polling import eventually


async def test_following_sees_every_entry_from_now_on(stack: Stack, redis_client: Redis) -> None:
    stream = f"events.followed-{uuid.uuid4()}"
    await redis_client.xadd(stream, {"n": b"before"})
    seen: list[bytes] = []
    gaps: list[None] = []
    begun = asyncio.Event()
    reader = reader_client(stack.redis.url())
    following = partial(
        follow,
        reader,
        stream,
        lambda _, fields: seen.append(fields[b"n"]),
        lambda: gaps.append(None),
        begun.set,
        block_ms=50,
    )
    async with run_in_background(following, name="follow"):
        await begun.wait()
        await redis_client.xadd(stream, {"n": b"1"})
        await redis_client.xadd(stream, {"n": b"2"})
        await eventually(lambda: value_of(seen == [b"1", b"2"]))
        assert gaps == []
        await redis_client.client_kill_filter(_type="normal", skipme=True)
        await eventually(lambda: value_of(gaps))
        await redis_client.xadd(stream, {"n": b"3"})
        await eventually(lambda: value_of(seen == [b"1", b"2", b"3"]))
    await reader.aclose()
