"""The body of a chat completion: Server-Sent Events with a JSON object each, until `[DONE]`, or one object in all.

Of events only `data` lines matter; each is one chunk. Bounded: a line, the whole body, and the time until the next
chunk, which comments and blank lines do not extend.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson

from services.indexing.agents.chat.errors import ModelUnavailable
from services.indexing.agents.contracts import Usage

LONGEST_LINE: Final = 256 * 1024

_DONE: Final = b"[DONE]"
# Usage and `[DONE]` follow the end of the text at once, from servers that send them.
_SECONDS_AFTER_TEXT: Final = 2.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """`text`: more of it. `finish`: why the model stopped, once it has. `usage`: if the chunk tells."""

    text: str = ""
    finish: str | None = None
    usage: Usage | None = None


class ChatStream:
    """Args:
    most_bytes: of the body.
    whole: it is one object.
    """

    def __init__(self, body: aiohttp.StreamReader, *, most_bytes: int, whole: bool) -> None:
        self._body = body
        self._left = most_bytes
        self._whole = whole
        self._buffer = bytearray()
        self._finished = False

    async def next(self, seconds: float) -> Chunk | None:
        """The next chunk, or None after the last.

        Raises:
            ModelUnavailable: there was none for so long, it broke off, is too large or is no chunk.
        """
        try:
            async with asyncio.timeout(min(seconds, _SECONDS_AFTER_TEXT) if self._finished else seconds):
                data = await self._data()
        except TimeoutError as error:
            if self._finished:
                return None
            raise ModelUnavailable("silent") from error
        except aiohttp.ClientError as error:
            raise ModelUnavailable("broke_off") from error
        if data == _DONE or (data is None and self._finished):
            return None
        if data is None:
            raise ModelUnavailable("broke_off")
        chunk = parsed(data)
        self._finished = self._finished or self._whole or chunk.finish is not None
        return chunk

    async def _data(self) -> bytes | None:
        """The next event's, or the whole body; None at the end."""
        if self._whole:
            while await self._read():
                pass
            data, self._buffer = bytes(self._buffer), bytearray()
            return data or None
        while (line := await self._line()) is not None:
            if line.startswith(b"data:"):
                return line[5:].strip()
        return None

    async def _line(self) -> bytes | None:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > LONGEST_LINE:
                raise ModelUnavailable("too_large")
            if not await self._read():
                return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def _read(self) -> bool:
        part = await self._body.readany()
        self._left -= len(part)
        if self._left < 0:
            raise ModelUnavailable("too_large")
        self._buffer += part
        return bool(part)


def parsed(data: bytes) -> Chunk:
    """A chunk, or a whole completion.

    Raises:
        ModelUnavailable: it is neither, or reports an error.
    """
    try:
        read = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ModelUnavailable("no_json") from error
    if not isinstance(read, dict) or read.get("error") is not None:
        raise ModelUnavailable("reported_error")
    choices = read.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    said = choice.get("delta") or choice.get("message")
    text = said.get("content") if isinstance(said, dict) else None
    finish = choice.get("finish_reason")
    return Chunk(
        text if isinstance(text, str) else "", finish if isinstance(finish, str) else None, _usage(read.get("usage"))
    )


def _usage(reported: Any) -> Usage | None:
    if not isinstance(reported, dict):
        return None
    counts = [reported.get("prompt_tokens", 0), reported.get("completion_tokens", 0)]
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        return None
    return Usage(input_tokens=counts[0], output_tokens=counts[1])
