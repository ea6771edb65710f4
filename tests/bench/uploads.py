"""`uv run bench uploads`: 2 GiB by a resumable upload through the gateway, with gateway and projects killed twice each.

Checked, not only measured: the document has the right hash, and neither process grows by more than `MOST_GROWTH`.
"""

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import aiohttp
import psutil

from infra.local.services import ServiceProcess
from tests.support.resumable import PIECE, TUS, metadata
from tests.support.system import System, create_project, running_system

MIB: Final = 1024 * 1024
SIZE: Final = 2048 * MIB
MOST_GROWTH: Final = 32 * MIB
KILLED: Final = ("gateway", "projects", "projects", "gateway")
SEED: Final = 7
_CHUNK: Final = 64 * 1024
_EXTRA: Final[Mapping[str, Mapping[str, str]]] = {"projects": {"QUARRY_PROJECTS_MAX_DOCUMENT_BYTES": str(SIZE)}}


def _chunk(number: int) -> bytes:
    """Every chunk is another one: bytes at the wrong place are noticed."""
    return number.to_bytes(8, "big") * (_CHUNK // 8)


def _content(start: int, end: int) -> bytes:
    number = start // _CHUNK
    whole = _chunk(number)
    return whole[start - number * _CHUNK : min(_CHUNK, end - number * _CHUNK)]


class _Growth:
    """By how much the processes of one service have grown above what they had when they began to receive."""

    def __init__(self, service: ServiceProcess) -> None:
        self._service = service
        self._before: dict[int, int] = {}
        self.most = 0

    def look(self) -> None:
        with suppress(psutil.NoSuchProcess, TypeError):
            process = psutil.Process(self._service.pid)
            resident = process.memory_info().rss
            self.most = max(self.most, resident - self._before.setdefault(process.pid, resident))


async def large(folder: Path) -> None:
    """The upload, in a system of its own in `folder`."""
    folder.mkdir()
    async with running_system(folder, durable=True, extra=_EXTRA) as system:
        _, client = await system.tenant("uploads")
        project = await create_project(client)
        async with aiohttp.ClientSession(
            system.url, headers={**TUS, "Authorization": client.headers["Authorization"]}
        ) as session:
            await _upload(system, session, project)


async def _upload(system: System, session: aiohttp.ClientSession, project: str) -> None:
    uploads = f"/v1/projects/{project}/uploads"
    growths = {name: _Growth(system.services[name]) for name in ("gateway", "projects")}
    await _warm_up(session, uploads)
    path = await _create(session, uploads, SIZE)
    chance, began, resent, offset = random.Random(SEED), time.perf_counter(), 0, 0
    borders = sorted(chance.randrange(SIZE) for _ in KILLED)
    for name, border in zip(KILLED, borders, strict=True):
        sent = await _until_killed(system, session, path, offset, border, name, growths)
        offset = await _offset(session, path)
        print(f"killed {name} at {sent / MIB:.0f} MiB: {offset / MIB:.0f} MiB are there")
        resent += sent - offset
        await _warm_up(session, uploads)
    async with session.patch(path, data=_bytes(offset, SIZE, growths), headers=_headers(offset)) as answer:
        assert answer.status == 204, await answer.text()
        document = answer.headers["Quarry-Document-Id"]
    seconds = time.perf_counter() - began
    async with session.get(f"/v1/projects/{project}/documents/{document}") as answer:
        found = await answer.json()
    digest = hashlib.sha256()
    for start in range(0, SIZE, _CHUNK):
        digest.update(_chunk(start // _CHUNK))
    assert (found["size"], found["sha256"]) == (SIZE, digest.hexdigest()), found
    print(f"uploads: {SIZE / MIB:.0f} MiB in {seconds:.0f} s, sent again {resent / MIB:.0f} MiB, sha256 as sent")
    for name, growth in growths.items():
        print(f"uploads: {name} grew by {growth.most / MIB:.1f} MiB")
        assert growth.most <= MOST_GROWTH, name


async def _until_killed(
    system: System,
    session: aiohttp.ClientSession,
    path: str,
    offset: int,
    border: int,
    name: str,
    growths: Mapping[str, _Growth],
) -> int:
    """Send from `offset` on, kill a service when `border` is sent, and start it again; how much was sent."""
    sent, service = offset, system.services[name]

    async def bytes_until_killed() -> AsyncIterator[bytes]:
        nonlocal sent
        async for piece in _bytes(offset, SIZE, growths):
            if sent >= border:
                service.kill()
                # Nothing more is sent; the other side of the request finds that out.
                await service.wait()
                return
            sent += len(piece)
            yield piece

    with suppress(aiohttp.ClientError, OSError):
        async with session.patch(path, data=bytes_until_killed(), headers=_headers(offset)) as answer:
            assert answer.status >= 500, await answer.text()
    assert sent >= border, f"{name} broke off at {sent} of {border}"
    await service.wait()
    await system.restart(name)
    return sent


async def _bytes(start: int, end: int, growths: Mapping[str, _Growth]) -> AsyncIterator[bytes]:
    while start < end:
        if start % MIB == 0:
            for growth in growths.values():
                growth.look()
            await asyncio.sleep(0)
        piece = _content(start, end)
        start += len(piece)
        yield piece


async def _warm_up(session: aiohttp.ClientSession, uploads: str) -> None:
    """What a new process loads with its first upload is not what an upload costs."""
    path = await _create(session, uploads, 16 * MIB)
    async with session.patch(path, data=b"w" * (16 * MIB - 1), headers=_headers(0)) as answer:
        assert answer.status == 204, await answer.text()
    async with session.delete(path) as answer:
        assert answer.status == 204


async def _create(session: aiohttp.ClientSession, uploads: str, size: int) -> str:
    headers = {"Upload-Length": str(size), "Upload-Metadata": metadata(filename="large.bin")}
    async with session.post(uploads, headers=headers) as answer:
        assert answer.status == 201, await answer.text()
        return answer.headers["Location"]


async def _offset(session: aiohttp.ClientSession, path: str) -> int:
    async with session.head(path) as answer:
        assert answer.status == 200, answer.status
        return int(answer.headers["Upload-Offset"])


def _headers(offset: int) -> dict[str, str]:
    return {**PIECE, "Upload-Offset": str(offset)}
