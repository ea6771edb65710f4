"""What needs connections alone: bodies that do not come, connections that do not end, requests without a credential."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

from tests.fairness import neighbours
from tests.fairness.scenario import Attacker, Operation, Scenario

_BODIES: Final = 280
_CONNECTIONS: Final = 3000
_PER_SECOND: Final = 430
_STRANGERS_PER_SECOND: Final = 88
_ROUND_SECONDS: Final = 30.0


async def _open(url: str, first: bytes) -> asyncio.StreamWriter | None:
    parts = urlsplit(url)
    try:
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(first)
        await writer.drain()
    except OSError:
        return None
    return writer


async def _held(opened: list[asyncio.StreamWriter | None], trickle: bytes) -> None:
    """Keep them open as long as they last, a little at a time."""
    held = [writer for writer in opened if writer is not None]
    try:
        async with asyncio.timeout(_ROUND_SECONDS):
            while held := [writer for writer in held if not writer.is_closing()]:
                for writer in held:
                    writer.write(trickle)
                await asyncio.sleep(1)
    except TimeoutError:
        pass
    finally:
        for writer in held:
            with suppress(OSError):
                writer.transport.abort()


@asynccontextmanager
async def _bodies_that_do_not_come(attackers: Sequence[Attacker]) -> AsyncIterator[Operation]:
    (attacker,) = attackers
    heads = [
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {attacker.key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
        for path in ("/v1/projects", "/v1/api-keys")
    ]

    async def act() -> None:
        opened = [await _open(attacker.url, heads[number % 2]) for number in range(_BODIES)]
        await _held(opened, b"")

    yield act


@asynccontextmanager
async def _connections_that_do_not_end(attackers: Sequence[Attacker]) -> AsyncIterator[Operation]:
    (attacker,) = attackers

    async def act() -> None:
        opened: list[asyncio.StreamWriter | None] = []
        for number in range(_CONNECTIONS):
            opened.append(await _open(attacker.url, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
            if number % 43 == 0:
                await asyncio.sleep(43 / _PER_SECOND)
        await _held(opened, b"\r\n")

    yield act


@asynccontextmanager
async def _strangers(attackers: Sequence[Attacker]) -> AsyncIterator[Operation]:
    (attacker,) = attackers
    numbers = 0

    async def act() -> None:
        nonlocal numbers
        numbers += 1
        headers = {"Authorization": f"Bearer qk_{numbers}"} if numbers % 4 == 0 else {"Authorization": ""}
        path = "/v1/projects" if numbers % 4 == 0 else f"/nowhere/{numbers}"
        await attacker.client.get(path, headers=headers)
        await asyncio.sleep(1 / _STRANGERS_PER_SECOND)

    yield act


SCENARIOS = (
    Scenario(
        "slow-bodies",
        "280 sockets of one key, each a POST of which one byte comes, beside the first request of a new credential",
        neighbours.first_request_of_a_new_credential,
        _bodies_that_do_not_come,
        every=0.2,
    ),
    Scenario(
        "endless-connections",
        "3,000 connections opened in seven seconds, kept by line ends, beside another tenant's requests",
        neighbours.get_project,
        _connections_that_do_not_end,
    ),
    Scenario(
        "strangers",
        "88 requests a second without a valid credential, beside those of a valid key at the same address",
        neighbours.get_project,
        _strangers,
    ),
)
