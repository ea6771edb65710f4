"""The protocol with the shard's process, and between processes that share an engine: JSON frames, multiplexed by id.

A frame is a four-byte big-endian length and that many bytes of JSON. A request is `{"id", "op", "args", "until"}`, its
reply `{"id", "ok"}` or `{"id", "error", "kind"}`. Replies come in any order. Before anything else the serving side
sends one reply with the id 0: that it is open and serving, or why it cannot be.

`until` is when the caller gives up, on the clock that all processes of a machine share. After it a request is not done:
a write that was stuck must not be applied after those that others made meanwhile.
"""

import asyncio
import struct
from collections.abc import Iterator
from typing import Any, Final, Literal, NotRequired, TypedDict

import orjson

ErrorKind = Literal["locked", "failed"]

READS: Final = frozenset({"ping", "search", "count", "scroll", "vectors"})
WRITES: Final = frozenset({"upsert", "set_payload", "set_words", "delete", "flush", "optimize"})
GREETING: Final = 0
MAX_FRAME: Final = 256 * 2**20
SHARED_PROTOCOL: Final = 1
"""What processes that share an engine speak; the greeting names it, because they may be of different versions."""
SHARED_MAX_FRAME: Final = 16 * 2**20
HEADER: Final = struct.Struct("!I")


class Reply(TypedDict, total=False):
    id: int
    ok: Any  # whatever the operation returns
    error: str
    kind: ErrorKind


class Request(TypedDict):
    id: int
    op: str
    args: dict[str, Any]  # the operation's keyword arguments
    until: NotRequired[float]


class FrameTooLarge(ValueError):
    """A peer announced a frame larger than the protocol allows."""


def encode(message: Request | Reply, most: int | None = None) -> bytes:
    body = orjson.dumps(message)
    if len(body) > (MAX_FRAME if most is None else most):
        raise FrameTooLarge(f"a frame of {len(body)} bytes")
    return HEADER.pack(len(body)) + body


def body_length(header: bytes, most: int | None = None) -> int:
    (length,) = HEADER.unpack(header)
    if length > (MAX_FRAME if most is None else most):
        raise FrameTooLarge(f"a frame of {length} bytes")
    return int(length)


async def read_body(reader: asyncio.StreamReader, most: int | None = None) -> bytes:
    """The next frame's JSON. Raises FrameTooLarge, or what `readexactly` raises when the stream ends."""
    header = await reader.readexactly(HEADER.size)
    return await reader.readexactly(body_length(header, most))


class FrameBuffer:
    """Bytes in, whole messages out."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[Request]:
        self._bytes += data
        while len(self._bytes) >= HEADER.size:
            end = HEADER.size + body_length(bytes(self._bytes[: HEADER.size]))
            if len(self._bytes) < end:
                return
            message: Request = orjson.loads(memoryview(self._bytes)[HEADER.size : end])
            del self._bytes[:end]
            yield message
