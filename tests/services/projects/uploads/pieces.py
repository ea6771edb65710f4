"""A client of resumable uploads, and one whose connection breaks."""

import hashlib
import uuid
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
from starlette.types import Message

from tests.services.projects.callers import Caller
from tests.support.resumable import PIECE, TUS, metadata
from tests.support.serving import StartedApp


def checksum(content: bytes, algorithm: str = "sha1") -> dict[str, str]:
    return {"Upload-Checksum": f"{algorithm} {b64encode(hashlib.new(algorithm, content).digest()).decode()}"}


async def begin(
    caller: Caller, project_id: uuid.UUID, length: int | None, content: bytes | None = None, **pairs: str
) -> httpx.Response:
    """Create an upload named `a.txt` unless `pairs` say otherwise."""
    headers = {**(TUS if content is None else PIECE), "Upload-Metadata": metadata(**{"filename": "a.txt", **pairs})}
    headers |= {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    return await caller("POST", f"/v1/projects/{project_id}/uploads", headers=headers, content=content)


async def begun(caller: Caller, project_id: uuid.UUID, length: int | None, **pairs: str) -> str:
    """The path of a new upload."""
    answer = await begin(caller, project_id, length, None, **pairs)
    assert answer.status_code == 201, answer.text
    return answer.headers["location"]


async def add(
    caller: Caller, path: str, offset: int, content: bytes | AsyncIterator[bytes], **headers: str
) -> httpx.Response:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return await caller("PATCH", path, content=content, headers={**PIECE, "Upload-Offset": str(offset), **more})


async def offset_of(caller: Caller, path: str) -> int:
    answer = await caller("HEAD", path, headers=TUS)
    assert answer.status_code == 200
    return int(answer.headers["upload-offset"])


async def cut_off(
    app: StartedApp, caller: Caller, path: str, offset: int, chunks: Sequence[bytes], **more: str
) -> None:
    """A piece whose connection ends after some chunks."""
    headers = {**caller.headers, **PIECE, "Upload-Offset": str(offset), **more}
    scope: dict[str, Any] = {
        "type": "http",
        "method": "PATCH",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    coming: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]

    async def receive() -> Message:
        return coming.pop(0) if coming else {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        pass

    await app(scope, receive, send)
