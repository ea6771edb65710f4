"""A chat endpoint in OpenAI's wire format, over real HTTP, that does what a test tells it to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from services.indexing.settings import ChatModelSettings
from tests.support.serving import serve

KEY = "sk-canary-of-the-key"


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is sent for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes as they are, between chunks."""

    data: bytes


class Cut:
    """The connection breaks."""


class HangUp(Exception):
    """Ends a response in the middle of it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response: `parts` are sent one after the other, text as chunks.

    Args:
        step: bytes sent at a time; all of a chunk when None.
        ends: whether it says why it ended, what it cost, and that it is done.
    """

    parts: Sequence[str | Pause | Raw | Cut | dict[str, Any]] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    usage: tuple[int, int] | None = (100, 20)
    finish: str = "stop"
    step: int | None = None
    ends: bool = True
    whole: bool = False


def say(*texts: str, **options: Any) -> Reply:
    return Reply(texts, **options)


def model_settings(chat: "ChatDouble", **changed: Any) -> ChatModelSettings:
    return ChatModelSettings.model_validate(
        {"url": chat.url, "model": "test-model", "api_key": KEY, "max_tokens": 64, "chunk_seconds": 10, **changed}
    )


Script = Callable[[dict[str, Any]], Reply]


@dataclass
class ChatDouble:
    """`script` decides each reply from the body of the request; `replies` come first, one each."""

    url: str = ""
    script: Script = lambda _: say("nothing")
    replies: list[Reply] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    @classmethod
    @asynccontextmanager
    async def serving(cls) -> AsyncIterator["ChatDouble"]:
        double = cls()
        async with serve(double._app()) as url:
            double.url = f"{url}/v1"
            yield double

    def reset(self) -> None:
        self.script, self.replies = lambda _: say("nothing"), []
        self.requests, self.headers, self.paths, self.most_under_way = [], [], [], 0

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "DELETE"])
        async def completions(path: str, request: Request) -> Response:
            body = await request.json()
            self.paths.append(f"{request.method} /{path}")
            self.requests.append(body)
            self.headers.append(dict(request.headers))
            reply = self.replies.pop(0) if self.replies else self.script(body)
            if reply.status != 200:
                return Response(b'{"error": {"message": "secret"}}', reply.status, reply.headers)
            if reply.whole:
                return Response(_whole(reply), media_type="application/json")
            return StreamingResponse(self._sent(reply), headers=reply.headers, media_type="text/event-stream")

        return app

    async def _sent(self, reply: Reply) -> AsyncIterator[bytes]:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            for part in reply.parts:
                if isinstance(part, Pause):
                    await asyncio.sleep(part.seconds)
                elif isinstance(part, Cut):
                    raise HangUp
                else:
                    data = part.data if isinstance(part, Raw) else _chunk(part)
                    for start in range(0, len(data), reply.step or len(data) or 1):
                        yield data[start : start + (reply.step or len(data))]
            if reply.ends:
                yield _line({"choices": [{"index": 0, "delta": {}, "finish_reason": reply.finish}]})
                yield _line({"choices": [], "usage": _usage(reply)})
                yield b"data: [DONE]\n\n"
        finally:
            self.under_way -= 1


def _chunk(part: str | dict[str, Any]) -> bytes:
    delta = {"content": part} if isinstance(part, str) else part
    return _line({"choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None})


def _line(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _whole(reply: Reply) -> bytes:
    text = "".join(part for part in reply.parts if isinstance(part, str))
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reply.finish}
    return orjson.dumps({"choices": [choice], "usage": _usage(reply)})


def _usage(reply: Reply) -> dict[str, int] | None:
    if reply.usage is None:
        return None
    return {"prompt_tokens": reply.usage[0], "completion_tokens": reply.usage[1]}
