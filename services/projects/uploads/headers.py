"""What the protocol has on every response, also on those that no route of it gives: errors and `OPTIONS`."""

import re
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.projects.uploads.protocol import ALGORITHMS, EXTENSIONS, VERSION

_PATH: Final = re.compile(r"/v1/projects/[^/]+/uploads(/[^/]+)?/?")


class TusHeaders:
    """ASGI middleware. `most_bytes` is the largest upload."""

    def __init__(self, app: ASGIApp, *, most_bytes: int) -> None:
        self._app = app
        self._resumable = (b"tus-resumable", VERSION.encode("ascii"))
        self._options = (
            (b"tus-version", VERSION.encode("ascii")),
            (b"tus-max-size", str(most_bytes).encode("ascii")),
            (b"tus-extension", EXTENSIONS.encode("ascii")),
            (b"tus-checksum-algorithm", ",".join(ALGORITHMS).encode("ascii")),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _PATH.fullmatch(scope["path"]) is None:
            await self._app(scope, receive, send)
            return
        more = (self._resumable, *(self._options if scope["method"] == "OPTIONS" else ()))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        await self._app(scope, receive, send_with_headers)
