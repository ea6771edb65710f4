"""A replica that is told to stop lets its streams go instead of holding the server up."""

import asyncio
import os
import time
import uuid

import aiohttp

from infra.local.services import ServiceProcess
from tests.services.notifier.running import Neighbours
from tests.services.notifier.sse import Sse
from tests.support.identity import IdentityDouble


async def test_sigterm_ends_streams_at_once(
    environment: dict[str, str], tokens: IdentityDouble, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    port = await _free_port()
    process = ServiceProcess("notifier", {**os.environ, **environment, "QUARRY_NOTIFIER_ROLES": "http"}, port)
    await process.start()
    try:
        await process.wait_ready()
        url = f"{process.url}/v1/projects/{neighbours.add_project()}/events"
        headers = tokens.headers("notifier", tenant_id=tenant_id)
        async with aiohttp.ClientSession() as client, Sse.open(client, url, headers) as stream:
            await stream.live()
            started = time.monotonic()
            stopping = asyncio.create_task(process.stop())
            assert (await stream.end(within=5))[-1].comments == ["restarting"]
            assert await stopping == 0, process.tail()
            assert time.monotonic() - started < 4.5
    finally:
        await process.stop()


async def _free_port() -> int:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port
