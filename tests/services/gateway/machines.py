"""Replicas of a service as machines: each has a loopback address of its own, dies, hangs and comes back.

town = Town("projects.test")
async with town.machines(3) as (first, second, third):
    gateway = await start_gateway(lookup=town.lookup, projects_url=town.url)
    await first.die()       # refuses, and what was open is reset
    second.hangs = True     # accepts and says nothing, as a stopped process does
    town.addresses.remove(third.address)
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

_RESET: Final = struct.pack("ii", 1, 0)


@dataclass
class Machine:
    """One replica. Answers every request with its own address, or as it is told."""

    address: str
    port: int
    resets: bool = False
    status: int = 200
    delay: float = 0.0
    asked: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    streams: list[asyncio.StreamWriter] = field(default_factory=list)
    open: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _speaks: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._speaks.set()

    @property
    def hangs(self) -> bool:
        return not self._speaks.is_set()

    @hangs.setter
    def hangs(self, hangs: bool) -> None:
        if hangs:
            self._speaks.clear()
        else:
            self._speaks.set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, self.address, self.port)

    async def die(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self.open):
            _reset(writer)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._talk(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = head.lower().split("\r\n")
                headers = dict(line.split(": ", 1) for line in lines[1:] if line)
                await reader.readexactly(int(headers.get("content-length", "0")))
                self.asked.append(head.split(" ")[0])
                self.hosts.add(headers["host"])
                await self._answer(writer, stream="text/event-stream" in headers.get("accept", ""))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.open.discard(writer)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, *, stream: bool) -> None:
        await self._speaks.wait()
        if self.resets:
            _reset(writer)
            raise ConnectionResetError
        await asyncio.sleep(self.delay)
        if stream:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            writer.write(_chunk(f"data: {self.address}\n\n"))
            self.streams.append(writer)
            return
        body = json.dumps({"address": self.address, "code": f"of {self.address}"}).encode()
        writer.write(
            b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (self.status, len(body), body)
        )
        await writer.drain()

    def say(self, text: str) -> None:
        """To everybody who has a stream of events here."""
        for writer in self.streams:
            writer.write(_chunk(text))


@dataclass
class Town:
    """A name in DNS and the machines it stands for. `addresses` is what DNS answers; None: nothing at all."""

    host: str
    port: int = 0
    addresses: list[str] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def lookup(self, host: str, port: int) -> Sequence[str]:
        assert (host, port) == (self.host, self.port)
        if self.addresses is None:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return list(self.addresses)

    @asynccontextmanager
    async def machines(self, count: int) -> AsyncIterator[list[Machine]]:
        """So many machines, running, each at its own address and all at one port."""
        found = [Machine(f"127.0.0.{number}", 0) for number in range(1, count + 1)]
        with socket.socket() as probe:
            probe.bind(("0.0.0.0", 0))  # noqa: S104  # free at every address; nobody listens
            self.port = probe.getsockname()[1]
        try:
            for machine in found:
                machine.port = self.port
                await machine.start()
            self.addresses = [machine.address for machine in found]
            yield found
        finally:
            for machine in found:
                machine.hangs = False
                await machine.die()


def _chunk(text: str) -> bytes:
    return b"%x\r\n%s\r\n" % (len(text), text.encode())


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
