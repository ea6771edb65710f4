"""The service as a process of its own: what a large document costs it."""

import asyncio
import hashlib
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil

from infra.local.home import ROOT
from tests.services.projects.callers import Caller
from tests.support.identity import IdentityDouble
from tests.support.polling import eventually

MIB = 1024 * 1024
SIZE = 64 * MIB
CHUNK = bytes(range(256)) * 256


@asynccontextmanager
async def service_process(environment: dict[str, str], socket: Path) -> AsyncIterator[psutil.Process]:
    """The service under uvicorn, on a Unix socket."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QUARRY_")}
    arguments = ["services.projects.main:create_app", "--factory", "--uds", str(socket), "--http", "httptools"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "uvicorn", *arguments, "--loop", "uvloop", "--no-access-log"),
        cwd=ROOT,
        env={**inherited, **environment, "QUARRY_LOG_LEVEL": "WARNING"},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)


async def test_a_large_document_does_not_cost_memory(
    environment: dict[str, str], tokens: IdentityDouble, tenant_id: uuid.UUID, tmp_path: Path
) -> None:
    environment = {**environment, "QUARRY_PROJECTS_MAX_DOCUMENT_BYTES": str(2 * SIZE)}
    async with service_process(environment, tmp_path / "s") as process:
        transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "s"))
        async with httpx.AsyncClient(transport=transport, base_url="http://projects", timeout=60) as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.ConnectError:
                    return False

            await eventually(ready, within=90)
            caller = Caller(client, tokens, tenant_id=tenant_id, tenant_role="owner")
            project_id = await caller.create_project()
            path = f"/v1/projects/{project_id}/documents"
            await caller("GET", f"{path}/{(await caller.uploaded(project_id))['id']}/content")
            before = process.memory_info().rss

            digest = hashlib.sha256()
            growth = 0

            async def body() -> AsyncIterator[bytes]:
                nonlocal growth
                for _ in range(SIZE // len(CHUNK)):
                    digest.update(CHUNK)
                    yield CHUNK
                    growth = max(growth, process.memory_info().rss - before)

            answer = await caller("POST", path, params={"name": "large.bin"}, content=body())
            assert answer.status_code == 201
            assert answer.json()["size"] == SIZE
            assert answer.json()["sha256"] == digest.hexdigest()

            received = 0
            content = f"{path}/{answer.json()['id']}/content"
            async with client.stream("GET", content, headers=caller.headers) as download:
                async for chunk in download.aiter_bytes():
                    received += len(chunk)
                    growth = max(growth, process.memory_info().rss - before)
            assert received == SIZE
            assert growth < 24 * MIB, f"grew by {growth / MIB:.1f} MiB"
