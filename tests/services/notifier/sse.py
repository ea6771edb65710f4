"""A client of Server-Sent Events that shows what is on the wire."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson


@dataclass
class Block:
    """One block of lines up to an empty one, as the standard takes it apart."""

    event: str | None = None
    id: str | None = None
    retry: int | None = None
    data: Any = None
    comments: list[str] = field(default_factory=list)


class Ended(Exception):
    """The server has ended the stream."""


class Sse:
    """An open stream. Remembers the last id, as a browser does."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.last_event_id: str | None = None
        self.blocks: list[Block] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, client: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> AsyncIterator["Sse"]:
        async with client.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=None)) as answer:
            assert answer.status == 200, await answer.text()
            yield cls(answer)
            answer.close()

    async def block(self, within: float = 10) -> Block:
        """The next block.

        Raises:
            Ended: the stream is over.
        """
        block = Block()
        async with asyncio.timeout(within):
            async for raw in self.answer.content:
                line = raw.decode().rstrip("\n")
                if not line:
                    self.blocks.append(block)
                    return block
                self._read(block, line)
        raise Ended

    def _read(self, block: Block, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "":
            block.comments.append(value)
        elif name == "event":
            block.event = value
        elif name == "id":
            block.id = self.last_event_id = value
        elif name == "retry":
            block.retry = int(value)
        elif name == "data":
            assert block.data is None, "data must be one line"
            block.data = orjson.loads(value)
        else:
            raise AssertionError(f"not a field of an event: {line!r}")

    async def event(self, *types: str, within: float = 10) -> Block:
        """The next event, of one of `types` when some are named; others are passed over."""
        async with asyncio.timeout(within):
            while True:
                block = await self.block(within)
                if block.event is not None and (not types or block.event in types):
                    return block

    async def durable(self, count: int, within: float = 20) -> list[Block]:
        """The next `count` durable events; whatever has no id is passed over."""
        found: list[Block] = []
        async with asyncio.timeout(within):
            while len(found) < count:
                block = await self.event(within=within)
                if block.id is not None:
                    found.append(block)
        return found

    async def live(self) -> "Sse":
        """Wait until everything missed has been told: the snapshot has arrived."""
        await self.event("snapshot")
        return self

    async def end(self, within: float = 10) -> list[Block]:
        """Read to the end of the stream; the blocks that came before it."""
        blocks = []
        async with asyncio.timeout(within):
            try:
                while True:
                    blocks.append(await self.block(within))
            except Ended:
                return blocks
