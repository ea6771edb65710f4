"""Resumable uploads (tus 1.0.0) by hand."""

from base64 import b64encode

import httpx

TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}


def metadata(**pairs: str) -> str:
    """The header `Upload-Metadata`."""
    return ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in pairs.items())


async def begin_upload(
    client: httpx.AsyncClient, project: str, name: str, length: int, content: bytes, **pairs: str
) -> str:
    """Create an upload with its first bytes; gives its path."""
    headers = {**PIECE, "Upload-Length": str(length), "Upload-Metadata": metadata(filename=name, **pairs)}
    answer = await client.post(f"/v1/projects/{project}/uploads", content=content, headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


async def append(client: httpx.AsyncClient, path: str, offset: int, content: bytes) -> httpx.Response:
    return await client.patch(path, content=content, headers={**PIECE, "Upload-Offset": str(offset)})


async def offset_of(client: httpx.AsyncClient, path: str) -> int:
    answer = await client.head(path, headers=TUS)
    assert answer.status_code == 200, answer.status_code
    return int(answer.headers["upload-offset"])
