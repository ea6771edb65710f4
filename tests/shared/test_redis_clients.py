"""Connections to Redis that were closed while nobody used them."""

from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from infra.local.stack import Stack
from shared.redis_clients import command_client, reader_client
from tests.faults.proxy import FaultProxy
from tests.faults.systems import REDIS, moved, upstream_of
from tests.support.polling import eventually


@pytest.mark.parametrize("make", [command_client, reader_client])
async def test_a_closed_connection_is_not_used_again(
    stack: Stack, redis_client: Redis, make: Callable[[str], Redis]
) -> None:
    """Over TCP too, where no retry would hide it."""
    async with FaultProxy(upstream_of(stack, REDIS)) as proxy:
        client = make(moved(stack.redis.url(), proxy.port))
        await redis_client.client_kill_filter(_id=str(await client.client_id()))
        (idle,) = client.connection_pool._available_connections

        async def closed() -> bool:
            return idle._reader is not None and idle._reader.at_eof()

        await eventually(closed)
        assert await client.ping()
        await client.aclose()
