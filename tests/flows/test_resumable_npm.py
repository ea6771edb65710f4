"""tus-js-client, unchanged, uploads through the gateway, and goes on in another process."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.local.home import ROOT
from tests.flows.resuming import SIZE, content_of, owner_and_project
from tests.support import npm
from tests.support.resumable import offset_of
from tests.support.system import System

pytestmark = [pytest.mark.long, pytest.mark.timeout(420)]

CLIENTS = ROOT / "tests" / "flows" / "npm_clients"


@pytest.fixture(scope="module")
async def clients(folders: Callable[[str], Path]) -> Path:
    return await npm.installed(CLIENTS, folders("npm"))


async def test_the_javascript_client_goes_on_in_another_process(system: System, clients: Path, tmp_path: Path) -> None:
    owner, project = await owner_and_project(system)
    file = tmp_path / "large.bin"
    file.write_bytes(os.urandom(SIZE))
    storage = tmp_path / "urls.json"
    storage.write_text("{}", encoding="utf-8")
    plan = {
        "endpoint": f"{system.url}/v1/projects/{project}/uploads",
        "key": owner.headers["Authorization"].removeprefix("Bearer "),
        "file": str(file),
        "storage": str(storage),
        "metadata": {"filename": "large.bin", "filetype": "application/octet-stream", "metadata": '{"by": "js"}'},
        "stopAt": SIZE // 2,
    }
    program = ["node_modules/.bin/node", "resume_upload.mjs"]
    assert await npm.run(program, clients, given=json.dumps(plan).encode()) == b""
    (known,) = json.loads(storage.read_text(encoding="utf-8")).values()
    left_at = await offset_of(owner, known["uploadUrl"])
    assert 0 < left_at < SIZE
    told = json.loads(await npm.run(program, clients, given=json.dumps({**plan, "stopAt": None}).encode()))
    assert (told["resumedAt"], told["offset"]) == (left_at, SIZE)
    document = (await owner.get(f"/v1/projects/{project}/documents/{told['document']}")).json()
    assert (document["name"], document["metadata"], document["size"]) == ("large.bin", {"by": "js"}, SIZE)
    assert await content_of(owner, project, told["document"]) == file.read_bytes()
