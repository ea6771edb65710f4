"""What a large upload costs in memory: `uv run python -m tests.bench.upload_memory [--store s3] [--mib 2048]`.

One multipart form through the gateway and the projects service, as processes, into the store on the filesystem or into
a bucket of moto's server. Prints by how much each process grew at most while the document arrived and while it was read
again, beyond what it had after a small one. Needs twice the size on the disk, for parts and for the object.
"""

import argparse
import asyncio
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import psutil

from services.projects.blobs.s3.client import Access, client_of
from tests.support.system import System, create_project, running_system

_MIB: Final = 1024 * 1024
_CHUNK: Final = os.urandom(_MIB)
_WATCHED: Final = ("gateway", "projects")
_MOTO: Final = "import sys; from moto.server import main; main(sys.argv[1:])"


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", choices=["filesystem", "s3"], default="filesystem")
    parser.add_argument("--mib", type=int, default=2048)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="quarry-"))
    try:
        async with AsyncExitStack() as stack:
            extra = {"QUARRY_PROJECTS_MAX_DOCUMENT_BYTES": str((given.mib + 1) * _MIB)}
            if given.store == "s3":
                extra |= await stack.enter_async_context(_bucket(folder))
            home = folder / "home"
            home.mkdir()
            system = await stack.enter_async_context(running_system(home, extra={"projects": extra}))
            # It would fetch the document, and take processor time and disk space from what is measured.
            await system.services["indexing"].stop()
            await _measure(system, given.store, given.mib)
    finally:
        shutil.rmtree(folder)


async def _measure(system: System, store: str, mib: int) -> None:
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
        await _read(session, project, document)
        read = time.perf_counter()
        watching.cancel()
        most = await watching
    print(f"{store}: {mib} MiB sent in {uploaded - started:.0f} s, read in {read - uploaded:.0f} s")
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


@asynccontextmanager
async def _bucket(folder: Path) -> AsyncIterator[dict[str, str]]:
    """Settings of a bucket in a process of moto's server, whose files are in `folder`."""
    files = folder / "moto"
    files.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _MOTO, "-H", "127.0.0.1", "-p", str(port)),
        env={**os.environ, "TMPDIR": str(files)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    access = Access(f"http://127.0.0.1:{port}", "documents", "us-east-1", "test", "test")
    try:
        async with client_of(access, connections=1, seconds=5) as client:
            while True:
                try:
                    await client.create_bucket(Bucket=access.bucket)
                    break
                except Exception:  # noqa: BLE001  # not listening yet
                    await asyncio.sleep(0.1)
        yield {
            "QUARRY_PROJECTS_BLOB_ROOT": "",
            "QUARRY_PROJECTS_S3_URL": access.url,
            "QUARRY_PROJECTS_S3_BUCKET": access.bucket,
            "QUARRY_PROJECTS_S3_ACCESS_KEY_ID": access.access_key_id,
            "QUARRY_PROJECTS_S3_SECRET_ACCESS_KEY": access.secret_access_key,
        }
    finally:
        server.terminate()
        await server.wait()


if __name__ == "__main__":
    asyncio.run(main())
