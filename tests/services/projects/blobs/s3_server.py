"""A server with S3's interface in this process, and a proxy in front of it that can fail.

    server.fail("PUT", "/incoming/", Fault.ERROR, times=2)

The proxy compares `Content-MD5`, which the server behind it does not.
"""

import asyncio
import base64
import enum
import hashlib
import io
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web

from services.projects.blobs.s3.client import Access, client_of

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-encoding", "content-length", "date"})
_PROBLEM: Final = "<?xml version='1.0'?><Error><Code>{}</Code><Message>no</Message></Error>"


class Fault(enum.Enum):
    ERROR = "500 instead of the request"
    FULL = "507 instead of the request"
    DENIED = "403 instead of the request"
    SILENT = "no response, and no effect"
    CUT = "the connection ends in the middle of the request"
    LOST = "the request has its effect, and the connection ends without a response"
    LATE = "the connection ends without a response, and the request has its effect once `go_on` is set"
    SHORT = "the connection ends in the middle of the response"
    CORRUPT = "one byte of the request is another"


@dataclass(slots=True)
class _Planned:
    method: str
    path: re.Pattern[str]
    fault: Fault
    times: int


@dataclass(slots=True)
class S3Server:
    """`access` leads through the proxy to a bucket, another one after `renew`."""

    access: Access
    client: "S3Client"
    planned: list[_Planned] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def fail(self, method: str, path: str, fault: Fault, times: int = 1_000_000) -> None:
        """Until `heal`, or so many times; `path`: an expression found in the path and query."""
        self.planned.append(_Planned(method, re.compile(path), fault, times))

    async def renew(self) -> None:
        self.heal()
        self.seen.clear()
        self.go_on = asyncio.Event()
        self.access = replace(self.access, bucket=f"bucket-{uuid.uuid4()}")
        await self.client.create_bucket(Bucket=self.access.bucket)

    def heal(self) -> None:
        self.planned.clear()

    def next_fault(self, method: str, path: str) -> Fault | None:
        self.seen.append((method, path))
        for plan in self.planned:
            if plan.times and plan.method == method and plan.path.search(path):
                plan.times -= 1
                return plan.fault
        return None

    async def names(self, bucket: str | None = None) -> list[str]:
        """Every object, and every unfinished upload with a `?` behind its name."""
        objects = await self.client.list_objects_v2(Bucket=bucket or self.access.bucket)
        uploads = await self.client.list_multipart_uploads(Bucket=bucket or self.access.bucket)
        found = [item["Key"] for item in objects.get("Contents", ())]
        return sorted([*found, *(f"{item['Key']}?" for item in uploads.get("Uploads", ()))])


@asynccontextmanager
async def server_of(moto_url: str) -> AsyncIterator[S3Server]:
    """A proxy to the server there."""
    behind = Access(moto_url, "", "us-east-1", "test", "test")
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        client_of(behind, connections=1, seconds=5) as client,
    ):
        server = S3Server(behind, client)

        async def handle(request: web.Request) -> web.StreamResponse:
            return await _handle(server, session, moto_url, request)

        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            server.access = replace(behind, url=f"http://{host}:{port}")
            yield server
        finally:
            await runner.cleanup()


async def _handle(
    server: S3Server, session: aiohttp.ClientSession, moto_url: str, request: web.Request
) -> web.StreamResponse:
    fault = server.next_fault(request.method, request.raw_path)
    refused = {
        Fault.ERROR: (500, "InternalError"),
        Fault.FULL: (507, "XMinioStorageFull"),
        Fault.DENIED: (403, "AccessDenied"),
    }
    if fault in refused:
        await request.read()
        status, code = refused[fault]
        return web.Response(status=status, text=_PROBLEM.format(code), content_type="application/xml")
    if fault is Fault.CUT:
        await request.content.readany()
        return _hang_up(request)
    content = await request.read()
    if fault is Fault.SILENT:
        await asyncio.Event().wait()
    if fault is Fault.LATE:
        _hang_up(request)
        await server.go_on.wait()
    if fault is Fault.CORRUPT:
        content = bytes([content[0] ^ 1]) + content[1:]
    wanted = request.headers.get("Content-MD5")
    if wanted and wanted != base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode():
        return web.Response(status=400, text=_PROBLEM.format("BadDigest"), content_type="application/xml")
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
    async with session.request(
        request.method, f"{moto_url}{request.raw_path}", data=io.BytesIO(content), headers=headers
    ) as got:
        answer = await got.read()
        kept = {name: value for name, value in got.headers.items() if name.lower() not in _HOP}
        length = int(got.headers.get("Content-Length", len(answer)))
    if fault is Fault.LOST:
        return _hang_up(request)
    response = web.StreamResponse(status=got.status, headers=kept)
    response.content_length = length
    await response.prepare(request)
    if fault is Fault.SHORT:
        await response.write(answer[: len(answer) // 2])
        return _hang_up(request)
    await response.write(answer)
    return response


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
