"""Calling another service over HTTP: rarely, with small requests that change nothing.

Guarantees: a response or an error within `WITHIN_SECONDS`. When a replica cannot be reached, breaks off, stays silent
for `ATTEMPT_SECONDS` or reports that it is unavailable, the request is sent again, to another address of the name where
there is one.
How: each request has a connection of its own and a fresh DNS lookup, since a kept connection may lead to a replica that
is gone; a connection is tried at the next address when the first is slow to accept it (RFC 8305).
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Literal

import aiohttp
import tenacity

from shared import keepalive
from shared.resilience import retried

ATTEMPT_SECONDS: Final = 1.5
WITHIN_SECONDS: Final = 3.0
CONNECT_SECONDS: Final = 2.0
_ATTEMPTS: Final = 3
_NAME_SECONDS: Final = 1
_AWAY: Final = frozenset({502, 503, 504})
_UNANSWERED: Final = tenacity.retry_if_exception_type((aiohttp.ClientError, TimeoutError)) | tenacity.retry_if_result(
    lambda response: response[0] in _AWAY
)


def new_session() -> aiohttp.ClientSession:
    """The HTTP client of a service, for its lifespan."""
    connector = aiohttp.TCPConnector(force_close=True, ttl_dns_cache=_NAME_SECONDS, socket_factory=keepalive.new_socket)
    timeout = aiohttp.ClientTimeout(total=60, sock_connect=CONNECT_SECONDS)
    return aiohttp.ClientSession(connector=connector, timeout=timeout)


async def ask(
    client: aiohttp.ClientSession,
    method: Literal["GET", "HEAD", "POST"],
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    json: object = None,
) -> tuple[int, bytes]:
    """Status and body of the response to a request that may be sent more than once.

    Raises:
        aiohttp.ClientError, TimeoutError: no response.
    """

    async def attempt() -> tuple[int, bytes]:
        async with (
            asyncio.timeout(ATTEMPT_SECONDS),
            client.request(method, url, headers=headers, params=params, json=json) as response,
        ):
            return response.status, await response.read()

    async with asyncio.timeout(WITHIN_SECONDS):
        return await retried(attempt, _ATTEMPTS, again=_UNANSWERED, first=0.2, most=0.8)
