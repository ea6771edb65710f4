"""Is it up? One question and one answer over a fresh connection, without a client library to import first."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from infra.local.ports import HOST

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def http_status(
    port: int, path: str, *, headers: Mapping[str, str] | None = None, within: float = 3.0
) -> int | None:
    """Status of `GET path` on loopback; None when nobody answers in time."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}:{port}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    request = "\r\n".join([*lines, "", ""]).encode("ascii")
    parts = (await _first_line(lambda: asyncio.open_connection(HOST, port), request, within)).split()
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None


async def redis_answers(socket: Path, *, within: float = 3.0) -> bool:
    """Whether the server at a Unix socket answers PING with PONG, which it does not while it loads its data."""
    return await _first_line(lambda: asyncio.open_unix_connection(str(socket)), b"PING\r\n", within) == b"+PONG\r\n"


async def _first_line(connect: Callable[[], Awaitable[_Streams]], request: bytes, within: float) -> bytes:
    """What comes back first; empty when nobody is there or nothing comes in time."""
    try:
        return await asyncio.wait_for(_exchange(connect, request), within)
    except OSError:  # TimeoutError is one
        return b""


async def _exchange(connect: Callable[[], Awaitable[_Streams]], request: bytes) -> bytes:
    reader, writer = await connect()
    try:
        writer.write(request)
        return await reader.readline()
    finally:
        writer.close()


async def eventually(condition: Callable[[], bool], *, within: float, every: float = 0.02) -> bool:
    """Whether `condition` comes true in time; asked again and again, for what announces itself to nobody."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(every)
    return True
