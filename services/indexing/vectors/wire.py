"""How the service and the shard's process talk: frames of JSON over a Unix socket pair, multiplexed by id.

A frame is a four-byte big-endian length and that many bytes of JSON. A request is `{"id", "op", "args"}`, its reply
`{"id", "ok"}` or `{"id", "error", "kind"}`. Replies come in any order. Before anything else the process sends one reply
with the id 0: it is open and serving, or why it cannot be.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final, Literal, TypedDict

import orjson

ErrorKind = Literal["locked", "failed"]

GREETING: Final = 0
MAX_FRAME: Final = 256 * 2**20
HEADER: Final = struct.Struct("!I")


class Reply(TypedDict, total=False):
    id: int
    ok: Any  # whatever the operation answers
    error: str
    kind: ErrorKind


class Request(TypedDict):
    id: int
    op: str
    args: dict[str, Any]  # the operation's keyword arguments


class FrameTooLarge(ValueError):
    """A peer announced a frame no honest peer sends."""


def encode(message: Request | Reply) -> bytes:
    body = orjson.dumps(message)
    if len(body) > MAX_FRAME:
        raise FrameTooLarge(f"a frame of {len(body)} bytes")
    return HEADER.pack(len(body)) + body


def body_length(header: bytes) -> int:
    (length,) = HEADER.unpack(header)
    if length > MAX_FRAME:
        raise FrameTooLarge(f"a frame of {length} bytes")
    return int(length)


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
