"""A network that can be broken on purpose: a proxy on loopback between a service and Postgres or Redis.

    async with FaultProxy(unix("/run/redis.sock")) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        proxy.delay(0.2)            # every chunk arrives so much later, in both directions
        proxy.blackhole()           # connections are accepted and kept, no byte passes
        proxy.cut_after(1000)       # each connection is reset when so many more bytes have passed it
        proxy.reset()               # what is open is reset (RST) now, what comes as soon as it is accepted
        await proxy.refuse()        # nobody listens; what is open stays open
        await proxy.heal()          # bytes held back go on, as they do after packets were lost

Faults hold until the next call; each replaces the one before. `reset_once()` breaks what is open and nothing else.

Bounded: at most `most` connections at once (more are reset), at most one chunk of 64 KiB held per direction.
Does not: reorder or change bytes, or wait for `stop`: what is open is reset.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

HOST: Final = "127.0.0.1"
CHUNK: Final = 64 * 1024
_LINGER_RESET: Final = struct.pack("ii", 1, 0)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]


def unix(path: Path | str) -> Connect:
    """An upstream on a Unix socket."""
    return lambda: asyncio.open_unix_connection(str(path), limit=CHUNK)


def tcp(host: str, port: int) -> Connect:
    """An upstream on a TCP port."""
    return lambda: asyncio.open_connection(host, port, limit=CHUNK)


@dataclass(slots=True, eq=False)
class _Link:
    """One connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    budget: int | None = None
    task: "asyncio.Task[None] | None" = None

    def reset(self) -> None:
        for writer in (self.client, self.server):
            if writer is not None:
                _reset(writer)
        if self.task is not None:
            self.task.cancel()


@dataclass(slots=True)
class Counts:
    """What the proxy has seen since it was made."""

    accepted: int = 0
    turned_away: int = 0
    broken: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Weather:
    """The fault in effect."""

    delay: float = 0.0
    resetting: bool = False
    budget: int | None = None
    flowing: asyncio.Event = field(default_factory=asyncio.Event)


class FaultProxy:
    """Forwards connections to `upstream`, as well as the fault in effect lets it.

    Args:
        upstream: opens a connection to the real server.
        path: listen on this Unix socket instead of a free TCP port.
        most: connections at once.
    """

    def __init__(self, upstream: Connect, *, path: Path | None = None, most: int = 512) -> None:
        self._upstream = upstream
        self._path = path
        self._most = most
        self._server: asyncio.Server | None = None
        self._port = 0
        self._links: set[_Link] = set()
        self._weather = _Weather()
        self._weather.flowing.set()
        self.counts = Counts()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        """The TCP port, the same for as long as the proxy lives; 0 on a Unix socket."""
        return self._port

    @property
    def open(self) -> int:
        """Connections now."""
        return len(self._links)

    async def start(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._accept, self._path, limit=CHUNK)
            return
        self._server = await asyncio.start_server(self._accept, HOST, self._port, limit=CHUNK)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        await self._close_listener()
        tasks = [link.task for link in self._links if link.task is not None]
        self.reset_once()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- faults ------------------------------------------------------------------------------------------------------

    async def heal(self) -> None:
        """No fault any more."""
        self._change(_Weather())
        if self._server is None:
            await self.start()

    def delay(self, seconds: float) -> None:
        self._change(_Weather(delay=seconds))

    def blackhole(self) -> None:
        self._change(_Weather(), flowing=False)

    def cut_after(self, count: int) -> None:
        self._change(_Weather(budget=count))

    def reset(self) -> None:
        self._change(_Weather(resetting=True))
        self.reset_once()

    async def refuse(self) -> None:
        self._change(_Weather())
        await self._close_listener()

    def reset_once(self) -> None:
        for link in list(self._links):
            self.counts.broken += 1
            link.reset()

    def _change(self, weather: _Weather, *, flowing: bool = True) -> None:
        former, self._weather = self._weather, weather
        if flowing:
            weather.flowing.set()
        # Whoever waits in the former fault looks again.
        former.flowing.set()
        for link in self._links:
            link.budget = weather.budget

    # --- connections -------------------------------------------------------------------------------------------------

    async def _close_listener(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts.accepted += 1
        if self._weather.resetting or len(self._links) >= self._most:
            self.counts.turned_away += 1
            _reset(writer)
            return
        link = _Link(writer, budget=self._weather.budget, task=asyncio.current_task())
        self._links.add(link)
        try:
            await self._forward(link, reader)
        except (OSError, asyncio.CancelledError):
            # Either side broke the connection, or `reset` did: the other side sees the same.
            link.task = None
            link.reset()
        finally:
            self._links.discard(link)

    async def _forward(self, link: _Link, reader: asyncio.StreamReader) -> None:
        upstream_reader, link.server = await self._upstream()
        pumps = [
            asyncio.create_task(self._pump(link, reader, link.server)),
            asyncio.create_task(self._pump(link, upstream_reader, link.client)),
        ]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
            for pump in done:
                pump.result()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        for writer in (link.client, link.server):
            writer.close()

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK):
            while not self._weather.flowing.is_set():
                await self._weather.flowing.wait()
            if self._weather.delay:
                await asyncio.sleep(self._weather.delay)
            if link.budget is not None:
                chunk, link.budget = chunk[: link.budget], link.budget - len(chunk)
            writer.write(chunk)
            await writer.drain()
            self.counts.bytes += len(chunk)
            if link.budget is not None and link.budget <= 0:
                self.counts.broken += 1
                link.reset()
                return
        if writer.can_write_eof():
            with contextlib.suppress(OSError):
                writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN, so that the other side gets an error and not an end."""
    handle = writer.get_extra_info("socket")
    if handle is not None and handle.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    writer.transport.abort()
