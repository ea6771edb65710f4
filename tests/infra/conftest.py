"""Folders and a tiny project for the embedded stack."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local.home import Home
from shared.topology import SERVICES

APPLICATION = """
import json, os, signal

ANSWER = "first"

def create_app():
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        path = scope["path"]
        if path == "/die":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = {"/answer": ANSWER, "/pid": os.getpid()}.get(path, dict(os.environ))
        if path == "/v1/me":
            known = os.path.join(os.path.dirname(__file__), "..", "..", "keys")
            key = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
            status = 200 if os.path.exists(known) and key in open(known).read().split() else 401
        else:
            status = 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
    return app
"""

PROTOCOL = "from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as GuardedProtocol\n"

TENANT_COMMAND = """
import json, os, sys, uuid
print("a line of log")
key = "qk_" + uuid.uuid4().hex
with open(os.path.join(os.path.dirname(__file__), "..", "..", "keys"), "a") as keys:
    keys.write(key + "\\n")
print(json.dumps({"tenant_id": sys.argv[2], "api_key": key}))
"""


def _new_folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="quarry test-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


# A new folder with a space in its name, short enough for sockets.
folder = pytest.fixture(_new_folder, name="folder")
module_folder = pytest.fixture(_new_folder, name="module_folder", scope="module")


@pytest.fixture
def project(folder: Path) -> Path:
    """A project whose services are a few lines each: they answer with their environment, their process id, or die."""
    return _make_project(folder)


@pytest.fixture(scope="module")
def module_project(module_folder: Path) -> Path:
    return _make_project(module_folder)


def _make_project(folder: Path) -> Path:
    for service in SERVICES:
        package = folder / "services" / service
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "main.py").write_text(APPLICATION)
    (folder / "services" / "__init__.py").touch()
    (folder / "services" / "identity" / "bootstrap.py").write_text(TENANT_COMMAND)
    inbound = folder / "services" / "gateway" / "inbound"
    inbound.mkdir()
    (inbound / "__init__.py").touch()
    (inbound / "http_protocol.py").write_text(PROTOCOL)
    (folder / "shared").mkdir()
    return folder


@pytest.fixture
def new_home(project: Path) -> Callable[[], Home]:
    """Each call is a new object over the same folder and the tiny project."""
    return lambda: Home(project / ".quarry", project)
