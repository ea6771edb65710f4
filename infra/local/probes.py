"""Is it up? One request and one response over a fresh connection, without a client library to import first."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from infra.local.ports import HOST

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def http_status(
    port: int, path: str, *, headers: Mapping[str, str] | None = None, within: float = 3.0
) -> int | None:
    """Status of `GET path` on loopback; None when there is no response in time."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}:{port}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    request = "\r\n".join([*lines, "", ""]).encode("ascii")
    lines_back = await _lines(lambda: asyncio.open_connection(HOST, port), request, 1, within)
    parts = lines_back[0].split() if lines_back else []
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None


async def redis_answers(socket: Path, credentials: tuple[str, str] | None = None, *, within: float = 3.0) -> bool:
    """Whether the server at a Unix socket replies to PING with PONG, which it does not while it loads its data.

    Args:
        credentials: user and password, for a server that asks for them.
    """
    commands = [_redis_command("PING")]
    if credentials is not None:
        commands.insert(0, _redis_command("AUTH", *credentials))
    answers = await _lines(lambda: asyncio.open_unix_connection(str(socket)), b"".join(commands), len(commands), within)
    return answers[-1:] == [b"+PONG\r\n"]


def _redis_command(*words: str) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in words]
    return b"".join(parts)


async def _lines(
    connect: Callable[[], Awaitable[_Streams]], request: bytes, count: int, within: float
) -> Sequence[bytes]:
    """The first lines of the reply; none when there is no server or they do not come in time."""
    try:
        return await asyncio.wait_for(_exchange(connect, request, count), within)
    except OSError:  # TimeoutError is one
        return []


async def _exchange(connect: Callable[[], Awaitable[_Streams]], request: bytes, count: int) -> Sequence[bytes]:
    reader, writer = await connect()
    try:
        writer.write(request)
        return [await reader.readline() for _ in range(count)]
    finally:
        writer.close()


async def eventually(condition: Callable[[], bool], *, within: float, every: float = 0.02) -> bool:
    """Whether `condition` becomes true in time; polled, for what sends no notification."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(every)
    return True
