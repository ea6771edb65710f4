"""The services behind the gateway: for each its address, its connections and its breaker.

Connections are pooled apart by what flows through them: a thousand open streams or slow uploads leave room for short
requests. Nothing about a request is decided here.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
from yarl import URL

from services.gateway.breaker import Breaker
from services.gateway.routes import Flow, UpstreamName
from services.gateway.settings import GatewaySettings

CONNECT_SECONDS = 2.0
POOL_SECONDS = 5.0
# Shorter than uvicorn's 5 s, so that a pooled connection is not closed by the other side just when it is used again.
KEEP_ALIVE_SECONDS = 2.5
READ_BUFFER_BYTES = 64 * 1024
MAX_ANSWER_HEADER_BYTES = 16 * 1024


@dataclass(slots=True)
class Upstream:
    """One service. `in_flight` counts its short requests and transfers under way."""

    name: UpstreamName
    url: str
    short: aiohttp.ClientSession
    transfers: aiohttp.ClientSession
    streams: aiohttp.ClientSession
    breaker: Breaker
    in_flight: int = 0

    def session(self, flow: Flow) -> aiohttp.ClientSession:
        return {Flow.SHORT: self.short, Flow.TRANSFER: self.transfers, Flow.EVENTS: self.streams}[flow]

    def address(self, raw_path: str, query: str) -> URL:
        """The URL whose path and query are exactly these bytes."""
        return URL(f"{self.url}{raw_path}?{query}" if query else f"{self.url}{raw_path}", encoded=True)


@asynccontextmanager
async def connect(settings: GatewaySettings) -> AsyncIterator[dict[UpstreamName, Upstream]]:
    """The four services. No connection is made before the first request."""
    urls: dict[UpstreamName, str] = {
        "identity": settings.identity_url,
        "projects": settings.projects_url,
        "indexing": settings.indexing_url,
        "notifier": settings.notifier_url,
    }
    async with AsyncExitStack() as stack:
        upstreams = {}
        for name, url in urls.items():
            short, transfers, streams = [
                await stack.enter_async_context(_session(connections))
                for connections in (settings.connections, settings.transfer_connections, settings.stream_connections)
            ]
            upstreams[name] = Upstream(name, url, short, transfers, streams, Breaker(name))
        yield upstreams


def _session(connections: int) -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=KEEP_ALIVE_SECONDS, ttl_dns_cache=10),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=POOL_SECONDS, sock_connect=CONNECT_SECONDS),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        read_bufsize=READ_BUFFER_BYTES,
        max_line_size=MAX_ANSWER_HEADER_BYTES,
        max_field_size=MAX_ANSWER_HEADER_BYTES,
    )
    # aiohttp repeats PUT and DELETE by itself when a connection breaks; here only what has no effect is repeated. There
    # is no public switch.
    session._retry_connection = False
    return session
