"""What a large upload costs in memory: `uv run python -m tests.bench.upload_memory [--mib 2048] [--read] [--s3 ...]`.

One multipart form through the gateway and the projects service, as processes, into the store on the filesystem, or into
a new bucket of the S3-compatible server that is named by its URL, an access key id and its secret. Prints by how much
each process grew at most while the document arrived, and was read again if wanted, beyond what a small one took.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import aiohttp
import psutil

from services.projects.blobs.s3.client import Access, client_of
from tests.support.system import System, create_project, running_system

_MIB: Final = 1024 * 1024
_CHUNK: Final = os.urandom(_MIB)
_WATCHED: Final = ("gateway", "projects")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--s3", nargs=3, metavar=("URL", "ID", "SECRET"))
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--read", action="store_true", help="read the document again")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="quarry-"))
    try:
        async with AsyncExitStack() as stack:
            extra = {"QUARRY_PROJECTS_MAX_DOCUMENT_BYTES": str((given.mib + 1) * _MIB)}
            if given.s3:
                extra |= await _bucket(*given.s3)
            home = folder / "home"
            home.mkdir()
            system = await stack.enter_async_context(running_system(home, extra={"projects": extra}))
            # It would fetch the document, and take processor time and disk space from what is measured.
            await system.services["indexing"].stop()
            await _measure(system, given.mib, read=given.read)
    finally:
        shutil.rmtree(folder)


async def _measure(system: System, mib: int, *, read: bool) -> None:
    _, client = await system.tenant("large")
    project = await create_project(client)
    async with aiohttp.ClientSession(system.url, headers=dict(client.headers)) as session:
        document = await _upload(session, project, 1)
        await _read(session, project, document)
        before = _resident(system)
        watching = asyncio.create_task(_most(system))
        started = time.perf_counter()
        document = await _upload(session, project, mib)
        uploaded = time.perf_counter()
        if read:
            await _read(session, project, document)
        finished = time.perf_counter()
        watching.cancel()
        most = await watching
    print(f"{mib} MiB sent in {uploaded - started:.0f} s, read in {finished - uploaded:.0f} s")
    for name in _WATCHED:
        print(f"  {name}: {before[name] / _MIB:.0f} MiB, at most {(most[name] - before[name]) / _MIB:+.1f} MiB")


async def _upload(session: aiohttp.ClientSession, project: str, mib: int) -> str:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(mib):
            yield number.to_bytes(8, "big") + _CHUNK[8:]

    form = aiohttp.FormData()
    form.add_field("file", chunks(), filename="large.bin", content_type="application/octet-stream")
    async with session.post(f"/v1/projects/{project}/documents", data=form, timeout=_PATIENT) as answer:
        document = await answer.json()
        assert answer.status == 201, document
        assert document["size"] == mib * _MIB
        return str(document["id"])


async def _read(session: aiohttp.ClientSession, project: str, document: str) -> None:
    async with session.get(f"/v1/projects/{project}/documents/{document}/content", timeout=_PATIENT) as answer:
        assert answer.status == 200
        async for _ in answer.content.iter_chunked(_MIB):
            pass


_PATIENT: Final = aiohttp.ClientTimeout(total=3600)


def _resident(system: System) -> dict[str, int]:
    return {name: psutil.Process(system.services[name].pid).memory_info().rss for name in _WATCHED}


async def _most(system: System) -> dict[str, int]:
    """Until cancelled."""
    most = _resident(system)
    try:
        while True:
            most = {name: max(most[name], now) for name, now in _resident(system).items()}
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return most


async def _bucket(url: str, key_id: str, secret: str) -> dict[str, str]:
    """Settings of a new bucket."""
    access = Access(url, f"quarry-{uuid.uuid4()}", "us-east-1", key_id, secret)
    async with client_of(access, connections=1, seconds=5) as client:
        await client.create_bucket(Bucket=access.bucket)
    return {
        "QUARRY_PROJECTS_BLOB_ROOT": "",
        "QUARRY_PROJECTS_S3_URL": access.url,
        "QUARRY_PROJECTS_S3_BUCKET": access.bucket,
        "QUARRY_PROJECTS_S3_ACCESS_KEY_ID": access.access_key_id,
        "QUARRY_PROJECTS_S3_SECRET_ACCESS_KEY": access.secret_access_key,
    }


if __name__ == "__main__":
    asyncio.run(main())
