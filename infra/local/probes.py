"""Is it up? One question and one answer over a fresh connection, without a client library to import first."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
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
    try:
        async with asyncio.timeout(within), _closing(await asyncio.open_connection(HOST, port)) as (reader, writer):
            writer.write(request)
            answer = await reader.readline()
    except OSError:  # TimeoutError is one
        return None
    parts = answer.split()
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None


async def redis_answers(socket: Path, *, within: float = 3.0) -> bool:
    """Whether the server at a Unix socket answers PING with PONG, which it does not while it loads its data."""
    try:
        async with (
            asyncio.timeout(within),
            _closing(await asyncio.open_unix_connection(str(socket))) as (reader, writer),
        ):
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"
    except OSError:
        return False


async def eventually(condition: Callable[[], bool], *, within: float, every: float = 0.02) -> bool:
    """Whether `condition` comes true in time; asked again and again, for what announces itself to nobody."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(every)
    return True


@contextlib.asynccontextmanager
async def _closing(streams: _Streams) -> AsyncIterator[_Streams]:
    try:
        yield streams
    finally:
        streams[1].close()
        with contextlib.suppress(OSError):
            await streams[1].wait_closed()
