"""The services behind the gateway: for each its replicas and its connections.

Connections are pooled by replica and by what flows through them: a thousand open streams or slow uploads leave room for
short requests, and a replica that hangs blocks no request to another. The gateway's own requests, above all token
exchanges, have connections that no client's request can take. `services.gateway.admission.load_shedding` decides who
may use how many.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import aiohttp
from yarl import URL

from services.gateway.routes import Flow
from services.gateway.settings import GatewaySettings
from services.gateway.upstreams.replicas import Lookup, Replica, Replicas
from shared import keepalive
from shared.topology import Backend

CONNECT_SECONDS = 2.0
POOL_SECONDS = 5.0
# For the gateway's own requests: at most as many exchanges as there may be at once, and some more.
OWN_CONNECTIONS = 160
# Shorter than uvicorn's 5 s, so that a pooled connection is not closed by the other side just when it is used again.
# Also how long a connection to a replica that is gone may be kept.
KEEP_ALIVE_SECONDS = 2.5
NAME_SECONDS = 1
READ_BUFFER_BYTES = 64 * 1024
MAX_ANSWER_HEADER_BYTES = 16 * 1024


@dataclass(slots=True)
class Upstream:
    """One service. `in_flight` counts its short requests and transfers under way, `waiting` those of its requests that
    wait for a replica."""

    name: Backend
    url: str
    short: aiohttp.ClientSession
    transfers: aiohttp.ClientSession
    streams: aiohttp.ClientSession
    own: aiohttp.ClientSession
    replicas: Replicas
    in_flight: int = 0
    waiting: int = 0

    def session(self, flow: Flow) -> aiohttp.ClientSession:
        return {Flow.SHORT: self.short, Flow.TRANSFER: self.transfers, Flow.EVENTS: self.streams}[flow]

    def address(self, replica: Replica, raw_path: str, query: str) -> URL:
        """The URL at one replica whose path and query are exactly these bytes."""
        return URL(f"{replica.url}{raw_path}?{query}" if query else f"{replica.url}{raw_path}", encoded=True)


@asynccontextmanager
async def connect(settings: GatewaySettings, lookup: Lookup) -> AsyncIterator[dict[Backend, Upstream]]:
    """The four services. No connection is made before the first request."""
    urls: dict[Backend, str] = {
        "identity": settings.identity_url,
        "projects": settings.projects_url,
        "indexing": settings.indexing_url,
        "notifier": settings.notifier_url,
    }
    async with AsyncExitStack() as stack:
        upstreams = {}
        for name, url in urls.items():
            short, transfers, streams, own = [
                await stack.enter_async_context(_session(connections, may_stall=may_stall))
                for connections, may_stall in (
                    (settings.connections + settings.anonymous_connections, False),
                    (settings.transfer_connections, True),
                    (settings.stream_connections, False),
                    (OWN_CONNECTIONS, False),
                )
            ]
            replicas = Replicas(name, url, lookup)
            stack.push_async_callback(replicas.close)
            upstreams[name] = Upstream(name, url, short, transfers, streams, own, replicas)
        yield upstreams


def _session(connections: int, *, may_stall: bool) -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0,
            limit_per_host=connections,  # a replica, since replicas are called by their addresses
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            ttl_dns_cache=NAME_SECONDS,
            socket_factory=partial(keepalive.new_socket, may_stall=may_stall),
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=POOL_SECONDS, sock_connect=CONNECT_SECONDS),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        read_bufsize=READ_BUFFER_BYTES,
        max_line_size=MAX_ANSWER_HEADER_BYTES,
        max_field_size=MAX_ANSWER_HEADER_BYTES,
    )
    # aiohttp repeats PUT and DELETE by itself when a connection breaks; here only requests without effect are repeated.
    # There is no public switch.
    session._retry_connection = False
    return session
