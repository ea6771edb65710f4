"""JSON bodies of requests: declared as JSON, in UTF-8, and bounded before anything is made of them.

The size of a body (`json_bytes` of the route), the number of its values and its depth are bounded, and with them what
validation can find wrong with it.
"""

import re
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from shared import content_coding
from shared.errors import InvalidRequest, TooLarge, UnsupportedMediaType

MAX_VALUES: Final = 10_000
MAX_DEPTH: Final = 64
_JSON: Final = re.compile(r"application/(?:[a-z0-9!#$&^_.-]+\+)?json", re.IGNORECASE)
_CHARSET: Final = re.compile(r';\s*charset\s*=\s*"?([^";\s]*)', re.IGNORECASE)


class NotJson(UnsupportedMediaType):
    detail = "Send JSON in UTF-8, with `Content-Type: application/json`."

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail)
        self.headers["Accept"] = "application/json"


class NestedTooDeeply(InvalidRequest):
    status = 422
    code = "validation_failed"
    detail = f"The body is nested deeper than {MAX_DEPTH} levels."


async def received(scope: Scope, receive: Receive, *, most_bytes: int, look_inside: bool = True) -> Receive:
    """`receive` for the parser of the body: all of it in one message, and what comes after as it comes.

    Args:
        look_inside: false when the parser calls `require_bounds` itself.

    Raises:
        NotJson: there is a body, and it is not declared to be JSON.
        TooLarge: more than `most_bytes`, sent or decompressed, or more than `MAX_VALUES` values.
        UnsupportedContentCoding, MalformedContentCoding, NestedTooDeeply, InvalidRequest: not acceptable.
    """
    headers = Headers(scope=scope)
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > most_bytes:
        raise _too_large(most_bytes)
    compressed = content_coding.is_compressed(headers.get("content-encoding"))
    chunks = _chunks(receive, most_bytes)
    if compressed:
        chunks = _bounded(content_coding.decoded(chunks), most_bytes)
    body = b"".join([chunk async for chunk in chunks])
    if body:
        _require_json(headers.get("content-type", ""))
        if look_inside:
            require_bounds(body)
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _chunks(receive: Receive, most_bytes: int) -> AsyncIterator[bytes]:
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequest("The request ended before its body was complete.")
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > most_bytes:
            raise _too_large(most_bytes)
        if chunk:
            yield chunk
        if not message.get("more_body", False):
            return


async def _bounded(pieces: AsyncIterator[bytes], most_bytes: int) -> AsyncIterator[bytes]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > most_bytes:
            raise _too_large(most_bytes)
        yield piece


def _too_large(most_bytes: int) -> TooLarge:
    return TooLarge(f"The body of this request may have at most {most_bytes} bytes.")


def _require_json(content_type: str) -> None:
    media_type = content_type.partition(";")[0].strip()
    charset = _CHARSET.search(content_type)
    if not _JSON.fullmatch(media_type):
        raise NotJson
    if charset is not None and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise NotJson


def require_bounds(body: bytes) -> None:
    """Counting bytes clears nearly every body; the rest is parsed, and counted while it is walked.

    Raises:
        TooLarge: more than `MAX_VALUES` values.
        NestedTooDeeply: more than `MAX_DEPTH` levels.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH and body.count(b",") + body.count(b":") < MAX_VALUES:
        return
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return  # The framework's parser says the same with the place.
    values, depth, level = 0, 0, [value]
    while level:
        depth += 1
        values += len(level)
        if values > MAX_VALUES:
            raise TooLarge(f"The body may have at most {MAX_VALUES} values.")
        if depth > MAX_DEPTH:
            raise NestedTooDeeply
        containers = [item for item in level if isinstance(item, dict | list)]
        level = []
        for container in containers:
            level.extend(container.values() if isinstance(container, dict) else container)
