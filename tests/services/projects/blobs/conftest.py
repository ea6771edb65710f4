import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from moto.s3 import models as moto_models
from moto.server import ThreadedMotoServer

from services.projects.blobs import files, filesystem
from services.projects.blobs.s3 import bucket, incoming
from services.projects.blobs.s3 import store as s3
from services.projects.blobs.store import BlobKey, BlobStore
from tests.services.projects.blobs.s3_server import S3Server, server_of
from tests.support.files import files_below

PART_BYTES = 64 * 1024
"""What tests are told is the size of a part, with the server's consent."""


@dataclass(frozen=True, slots=True)
class Held:
    """A store, and the names of everything that is in it."""

    store: BlobStore
    names: Callable[[], Awaitable[list[str]]]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BATCH_BYTES", PART_BYTES)
    monkeypatch.setattr(incoming, "PART_BYTES", PART_BYTES)
    monkeypatch.setattr(incoming, "FREE_BYTES", PART_BYTES // 8)
    monkeypatch.setattr(s3, "READ_BYTES", PART_BYTES // 2)
    monkeypatch.setattr(bucket, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(moto_models, "S3_UPLOAD_PART_MIN_SIZE", PART_BYTES)


@pytest.fixture
def key() -> BlobKey:
    return BlobKey(uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), 1)


@pytest.fixture(scope="package")
async def s3_running() -> AsyncIterator[S3Server]:
    behind = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    behind.start()
    host, port = behind.get_host_and_port()
    async with server_of(f"http://{host}:{port}") as server:
        yield server
    behind.stop()


@pytest.fixture
async def s3_server(s3_running: S3Server, small_parts: None) -> S3Server:
    """With an empty bucket of the test's own."""
    await s3_running.renew()
    return s3_running


@pytest.fixture(params=["filesystem", "s3"])
async def held(request: pytest.FixtureRequest, s3_server: S3Server, tmp_path: Path) -> AsyncIterator[Held]:
    if request.param == "s3":
        async with s3.open_store(s3_server.access, connections=4, buffers=4) as store:
            yield Held(store, s3_server.names)
        return

    async def names() -> list[str]:
        return sorted(path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path))

    async with filesystem.open_store(tmp_path, 4) as on_disk:
        yield Held(on_disk, names)
