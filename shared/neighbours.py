"""Asking another service over HTTP: seldom, about little, and by questions that change nothing.

Guarantees: an answer or an error within `WITHIN_SECONDS`. A replica that cannot be reached, breaks off, stays silent
for `ATTEMPT_SECONDS` or says that it cannot answer now is not the last word: the question is put again, to another
address of the name where there is one.
How: each question has a connection of its own and a fresh look at DNS, since a kept connection may lead to a replica
that is not there any more; a connection is tried at the next address when the first is slow to accept it (RFC 8305).
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Literal

import aiohttp

from shared import keepalive
from shared.resilience import Backoff

ATTEMPT_SECONDS: Final = 1.5
WITHIN_SECONDS: Final = 3.0
CONNECT_SECONDS: Final = 2.0
_ATTEMPTS: Final = 3
_NAME_SECONDS: Final = 1
_AWAY: Final = frozenset({502, 503, 504})


def new_session() -> aiohttp.ClientSession:
    """The HTTP client of a service, for its lifespan."""
    connector = aiohttp.TCPConnector(force_close=True, ttl_dns_cache=_NAME_SECONDS, socket_factory=keepalive.new_socket)
    timeout = aiohttp.ClientTimeout(total=60, sock_connect=CONNECT_SECONDS)
    return aiohttp.ClientSession(connector=connector, timeout=timeout)


async def ask(
    client: aiohttp.ClientSession,
    method: Literal["GET", "POST"],
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    json: object = None,
) -> tuple[int, bytes]:
    """Status and body of the answer to a question that may be put more than once.

    Raises:
        aiohttp.ClientError, TimeoutError: no answer.
    """
    pauses = Backoff(first=0.2, most=0.8)
    left = _ATTEMPTS
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            left -= 1
            try:
                async with (
                    asyncio.timeout(ATTEMPT_SECONDS),
                    client.request(method, url, headers=headers, params=params, json=json) as answer,
                ):
                    status, body = answer.status, await answer.read()
            except (aiohttp.ClientError, TimeoutError):
                if not left:
                    raise
            else:
                if status not in _AWAY or not left:
                    return status, body
            await asyncio.sleep(pauses.next())
