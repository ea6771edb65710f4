"""Resumable uploads through the gateway, and what becomes of them when a process is killed."""

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.home import ROOT
from tests.flows.resuming import SIZE, content_of, owner_and_project
from tests.support import npm
from tests.support.polling import eventually
from tests.support.resumable import PIECE, TUS, append, begin_upload, offset_of
from tests.support.system import System

PROGRAM = [sys.executable, str(ROOT / "tests" / "flows" / "tuspy_client.py")]


@pytest.mark.parametrize("checksum", [False, True], ids=["plain", "with checksums"])
async def test_the_python_client_goes_on_in_another_process(system: System, tmp_path: Path, checksum: bool) -> None:
    owner, project = await owner_and_project(system)
    file = tmp_path / "large.bin"
    file.write_bytes(os.urandom(SIZE))
    plan: dict[str, Any] = {
        "endpoint": f"{system.url}/v1/projects/{project}/uploads",
        "key": owner.headers["Authorization"].removeprefix("Bearer "),
        "file": str(file),
        "storage": str(tmp_path / "urls.json"),
        "metadata": {"filename": "large.bin", "filetype": "application/octet-stream", "metadata": '{"by": "py"}'},
        "stop_at": SIZE // 2,
        "checksum": checksum,
    }
    await npm.run(PROGRAM, ROOT, given=json.dumps(plan).encode())
    told = json.loads(await npm.run(PROGRAM, ROOT, given=json.dumps({**plan, "stop_at": None}).encode()))
    assert told["offset"] == SIZE
    document = (await owner.get(told["url"])).json()["document_id"]
    assert await content_of(owner, project, document) == file.read_bytes()


@pytest.mark.parametrize("killed", ["projects", "gateway"])
async def test_what_was_durable_when_a_process_was_killed_is_there(system: System, killed: str) -> None:
    owner, project = await owner_and_project(system)
    content = os.urandom(SIZE)
    path = await begin_upload(owner, project, "killed.bin", SIZE, content[:1000])
    sent = 1000

    async def slowly() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < SIZE - 1:
            piece = content[sent : min(sent + 64 * 1024, SIZE - 1)]
            sent += len(piece)
            yield piece
        # All but the last byte: nothing but the kill ends this request.
        await asyncio.Event().wait()

    sending = asyncio.create_task(
        owner.patch(path, content=slowly(), headers={**PIECE, "Upload-Offset": "1000"}, timeout=60)
    )

    async def recorded() -> bool:
        return bool((await owner.get(path)).json()["offset"] >= 8 * 1024 * 1024)

    await eventually(recorded, within=60)
    system.services[killed].kill()
    await system.services[killed].wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await system.restart(killed)
    offset = await offset_of(owner, path)
    assert 8 * 1024 * 1024 <= offset < SIZE
    answer = await append(owner, path, offset, content[offset:])
    assert answer.status_code == 204, answer.text
    document = (await owner.get(f"/v1/projects/{project}/documents/{answer.headers['quarry-document-id']}")).json()
    assert document["sha256"] == hashlib.sha256(content).hexdigest()


async def test_clients_without_patch_and_browsers_are_served(system: System) -> None:
    owner, project = await owner_and_project(system)
    path = await begin_upload(owner, project, "note.txt", 10, b"12345")
    headers = {**PIECE, "Upload-Offset": "5", "X-HTTP-Method-Override": "PATCH"}
    answer = await owner.post(path, content=b"67890", headers=headers)
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, "10")
    options = await owner.options(f"/v1/projects/{project}/uploads")
    assert options.headers["tus-version"] == "1.0.0"
    gone = await owner.post(path, headers={**TUS, "X-HTTP-Method-Override": "DELETE"})
    assert gone.status_code == 204
