"""HTTP by hand: requests that no client library would send."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Self


@dataclass
class RawAnswer:
    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """One connection to a server, as raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> RawAnswer:
        """Status line and headers of the next answer."""
        async with asyncio.timeout(10):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines[1:] if line)
        return RawAnswer(int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in pairs}, b"")

    async def answer(self) -> RawAnswer:
        """The next answer with its body."""
        answer = await self.head()
        async with asyncio.timeout(10):
            if "content-length" in answer.headers:
                answer.body = await self.reader.readexactly(int(answer.headers["content-length"]))
            elif answer.headers.get("transfer-encoding") == "chunked":
                answer.body = b"".join([chunk async for chunk in self._chunks()])
        return answer

    async def ended(self) -> bytes:
        """Whatever else comes until the server closes the connection."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; empty at its end."""
        async with asyncio.timeout(10):
            size = int(await self.reader.readline(), 16)
            data = await self.reader.readexactly(size)
            await self.reader.readexactly(2)
            return data

    def close(self) -> None:
        self.writer.transport.abort()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while chunk := await self.chunk():
            yield chunk
